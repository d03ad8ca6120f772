"""Report(findings, impression) <-> the text that the model reads and writes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# ASCII: ignoring case, `re` else takes "ımpression" and "findingſ" for section names.
SECTION = re.compile(r"(findings|impression)\s*:\s*", re.IGNORECASE | re.ASCII)
"""Where a section begins; the name is its first group."""


@dataclass(frozen=True)
class Report:
    """The two sections of a radiology report that the model knows.

    Attributes:
        findings: what is seen.
        impression: what it means.
    """

    findings: str = ""
    impression: str = ""

    @property
    def text(self) -> str:
        """The canonical form: `Findings: ... Impression: ...`, without an empty section."""
        sections = (("Findings", self.findings), ("Impression", self.impression))
        return " ".join(f"{name}: {body}" for name, body in sections if body)

    @property
    def is_empty(self) -> bool:
        """Whether there is no text at all."""
        return not (self.findings or self.impression)

    @classmethod
    def parse(cls, text: str) -> Report:
        """Split model output at its section names.

        Text before the first section name counts as findings, so nothing that the model wrote
        is lost; a section that occurs twice is joined.
        """
        parts = SECTION.split(text.strip())
        sections = {"findings": [parts[0].strip()], "impression": []}
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            sections[name.lower()].append(body.strip())
        joined = {name: " ".join(b for b in bodies if b) for name, bodies in sections.items()}
        return cls(joined["findings"], joined["impression"])
