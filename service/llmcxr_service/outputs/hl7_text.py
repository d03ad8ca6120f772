"""HL7 v2 encoding rules (ER7): values -> fields. Pure.

Source: HL7 v2.5.1, chapter 2, sections 2.7 (escapes) and 2A (data types).
"""

from __future__ import annotations

from collections.abc import Iterable

# The escape character first: it is in all the others.
_ESCAPES = (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\"))
_SEGMENT_END = "\r"


def escape(text: str) -> str:
    r"""A value in which nothing can be taken for a delimiter or a segment's end.

    Newlines become `\.br\`; other control characters go.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c == "\n" or c.isprintable())
    for character, escaped in _ESCAPES:
        text = text.replace(character, escaped)
    return text.replace("\n", "\\.br\\")


def components(*values: str) -> str:
    """A field of several components; empty ones at the end are left out."""
    return "^".join(escape(value) for value in values).rstrip("^")


def segment(name: str, fields: dict[int, str]) -> str:
    """A segment from fields by their number, already encoded."""
    last = max(fields)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def message(segments: Iterable[str]) -> bytes:
    """Segments as they travel, in UTF-8; framing (MLLP) is the carrier's."""
    return "".join(text + _SEGMENT_END for text in segments).encode("utf-8")


def person_name(value: str) -> str:
    """A DICOM PN as XPN repetitions: suffix before prefix, one for each script's form.

    DICOM is family^given^middle^prefix^suffix; HL7 is family^given^middle^suffix^prefix, and
    component 8 tells the alphabetic, ideographic and phonetic forms apart.
    """
    names = []
    for form, group in zip("AIP", value.split("="), strict=False):
        family, given, middle, prefix, suffix = [*group.split("^"), *[""] * 5][:5]
        if family or given:
            names.append(components(family, given, middle, suffix, prefix, "", "L", form))
    return "~".join(names)
