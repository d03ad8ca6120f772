"""Content negotiation: an Accept header and our offers -> one media type (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmcxr_service.errors import NotAcceptable


@dataclass(frozen=True)
class _Range:
    """A media range or an offer: type in lower case, parameters without q, and q."""

    media_type: str
    parameters: Mapping[str, str]
    quality: float


def negotiate(accept: str | None, offers: Sequence[str]) -> str:
    """The offer that the caller likes best; the first of equals.

    A parameter plays a part only where an offer of the same type has it: then it must be equal,
    or `*`. So `text/plain; charset=utf-8` is `text/plain`, and `application/dicom` is the first
    offer of that type, whatever its profile.

    Args:
        accept: the header's value; absent means that everything is welcome.
        offers: media types, the preferred first.

    Raises:
        NotAcceptable: none of the offers.
    """
    parsed = [next(_parse(offer)) for offer in offers]
    ranges = list(_parse(accept or "*/*")) or list(_parse("*/*"))
    qualities = [_quality(offer, ranges, _distinguishing(offer, parsed)) for offer in parsed]
    best = max(qualities)
    if best <= 0.0:
        raise NotAcceptable(f"The answer can be {' or '.join(offers)}.")
    return offers[qualities.index(best)]


def _distinguishing(offer: _Range, offers: Sequence[_Range]) -> frozenset[str]:
    """Names of the parameters that tell offers of this type apart."""
    return frozenset(
        name
        for other in offers
        if other.media_type == offer.media_type
        for name in other.parameters
    )


def _quality(offer: _Range, ranges: Sequence[_Range], names: frozenset[str]) -> float:
    """The q-value of the most specific range that covers the offer; 0 where none does."""
    found = [
        (specificity, wanted.quality)
        for wanted in ranges
        if (specificity := _specificity(offer, wanted, names)) is not None
    ]
    return max(found)[1] if found else 0.0


def _specificity(offer: _Range, wanted: _Range, names: frozenset[str]) -> tuple[int, int] | None:
    """How closely a range describes the offer; None where it does not cover it."""
    kind = offer.media_type.split("/")[0]
    patterns = ("*/*", f"{kind}/*", offer.media_type)
    if wanted.media_type not in patterns:
        return None
    asked = {name: value for name, value in wanted.parameters.items() if name in names}
    if any(value not in ("*", offer.parameters.get(name)) for name, value in asked.items()):
        return None
    return patterns.index(wanted.media_type), len(asked)


def _parse(accept: str) -> Iterator[_Range]:
    """Media ranges; nonsense is skipped."""
    for element in _split(accept.lower(), ","):
        media_range, *rest = (part.strip() for part in _split(element, ";"))
        if media_range == "*":  # as old Java clients send it
            media_range = "*/*"
        if media_range.count("/") == 1:
            parameters = dict(_parameter(part) for part in rest)
            yield _Range(media_range, parameters, _parse_quality(parameters.pop("q", "1")))


def _split(text: str, separator: str) -> Iterator[str]:
    """Pieces between separators; a quoted string is not split (RFC 9110, 5.6.4)."""
    start, quoted = 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _parse_quality(value: str) -> float:
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
