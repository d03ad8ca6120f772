"""What stands on the report's page: DraftReport -> paragraphs. It knows no pixels."""

from __future__ import annotations

from typing import NamedTuple

from llmcxr_models.observations import Observation
from llmcxr_service.draft import DraftReport
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.identity import clean_values, require_source
from llmcxr_service.outputs.object_ids import percent

_TEXT_SAYS = {True: "text: yes", False: "text: no", None: "text: not said"}


class Paragraph(NamedTuple):
    """A piece of text that is set as one.

    Attributes:
        text: may have newlines.
        bold: whether it is a heading.
        written: whether the model wrote it.
    """

    text: str
    bold: bool = False
    written: bool = False


def paragraphs(draft: DraftReport) -> list[Paragraph]:
    """All that the page says between its head and its foot; empty text is a gap.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
    """
    parts = [Paragraph("Chest radiograph: draft report", bold=True)]
    parts += [Paragraph(line) for line in _identity(draft)]
    parts += [Paragraph(""), *(Paragraph(note) for note in marks.notes(draft))]
    report = draft.report
    for heading, body in (("Findings", report.findings), ("Impression", report.impression)):
        if body:
            parts += [
                Paragraph(""),
                Paragraph(heading, bold=True),
                Paragraph(body, written=True),
            ]
    if report.is_empty:
        parts += [Paragraph(""), Paragraph("The model wrote no text.", bold=True)]
    if draft.observations:
        parts += [Paragraph(""), Paragraph("Findings asked for one by one", bold=True)]
        parts += [Paragraph(_observed(o)) for o in draft.observations]
        parts.append(Paragraph(marks.UNCALIBRATED))
    return parts


def _identity(draft: DraftReport) -> list[str]:
    values = clean_values(require_source(draft))
    fields = (
        ("Patient", _name(values["PatientName"])),
        ("Patient ID", values["PatientID"]),
        ("Born", _date(values["PatientBirthDate"])),
        ("Sex", values["PatientSex"]),
        ("Accession", values["AccessionNumber"]),
        ("Study of", _date(values["StudyDate"])),
        ("Study", values["StudyDescription"]),
    )
    lines = [f"{label}: {value}" for label, value in fields if value]
    return [*lines, f"Drafted: {draft.created:%Y-%m-%d %H:%M:%S %Z}".rstrip()]


def _name(value: str) -> str:
    """A PN for people: `Family, Given`; other scripts' forms in brackets (PS3.5, 6.2.1)."""
    forms = []
    for group in value.split("="):
        family, *others = (part.strip() for part in group.split("^"))
        rest = " ".join(part for part in others if part)
        forms.append(", ".join(part for part in (family, rest) if part))
    forms = [form for form in forms if form]
    return f"{forms[0]} ({', '.join(forms[1:])})" if len(forms) > 1 else "".join(forms)


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if value else ""


def _observed(observation: Observation) -> str:
    name = observation.finding.name
    says = _TEXT_SAYS[observation.mentioned]
    return f"{percent(observation.probability):.1f} %  {name} ({says})"
