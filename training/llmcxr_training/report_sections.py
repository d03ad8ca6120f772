"""Sections of a free-text radiology report: `FINDINGS:`, `IMPRESSION:`, `INDICATION:` ... Pure."""

from __future__ import annotations

import re

SYNONYMS = {
    "findings": "findings",
    "impression": "impression",
    "conclusion": "impression",
    "indication": "indication",
    "history": "indication",
    "clinical history": "indication",
    "clinical information": "indication",
    "reason for exam": "indication",
    "reason for examination": "indication",
    "comparison": "comparison",
    "comparisons": "comparison",
    "technique": "technique",
    "examination": "examination",
    "exam": "examination",
    "study": "examination",
    "recommendation": "recommendation",
    "recommendations": "recommendation",
    "notification": "notification",
    "wet read": "wet read",
}
"""Section names as they are written, and what they are called here."""

_NAMES = "|".join(sorted(map(re.escape, SYNONYMS), key=len, reverse=True))
# At the beginning of a line, or after a sentence: `... clear. IMPRESSION: ...` in capitals.
_HEADING = re.compile(rf"(?:^\s*(?i:({_NAMES}))|(?<=[.!?])\s+({_NAMES.upper()}))\s*:", re.MULTILINE)


def parse_sections(text: str) -> dict[str, str]:
    """Body of each section by its canonical name.

    A name that occurs twice is joined. A report without any heading is its own findings, as some
    short reports are; text before the first heading is the letterhead and is dropped.
    """
    headings = list(_HEADING.finditer(text))
    if not headings:
        body = re.sub(r"^\s*FINAL REPORT\s*$", "", text, flags=re.MULTILINE)
        return {"findings": _flat(body)} if body.strip() else {}
    sections: dict[str, str] = {}
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        name = SYNONYMS[(heading.group(1) or heading.group(2)).lower()]
        body = _flat(text[heading.end() : end])
        sections[name] = f"{sections[name]} {body}".strip() if name in sections else body
    return sections


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
