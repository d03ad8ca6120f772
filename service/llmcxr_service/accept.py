"""Content negotiation: an Accept header and our offers -> one media type (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmcxr_service.errors import NotAcceptable


def negotiate(accept: str | None, offers: Sequence[str]) -> str:
    """The offer that the caller likes best; the first of equals.

    Args:
        accept: the header's value; absent means that everything is welcome.
        offers: media types, the preferred first.

    Raises:
        NotAcceptable: none of the offers.
    """
    ranges = list(_parse(accept or "*/*")) or [("*/*", 1.0)]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0.0:
        raise NotAcceptable(f"The answer can be {' or '.join(offers)}.")
    return best


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The q-value of the most specific range that covers `offer`; 0 where none does."""
    for pattern in (offer, f"{offer.split('/')[0]}/*", "*/*"):
        qualities = [quality for media_range, quality in ranges if media_range == pattern]
        if qualities:
            return max(qualities)
    return 0.0


def _parse(accept: str) -> Iterator[tuple[str, float]]:
    """Media ranges and q-values; parameters other than q play no part, and nonsense is skipped."""
    for element in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in element.split(";"))
        if media_range == "*":  # as old Java clients send it
            media_range = "*/*"
        if media_range.count("/") == 1:
            yield media_range, _parse_quality(parameters)


def _parse_quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0.0 <= quality <= 1.0 else 0.0
    return 1.0
