"""Pieces of FHIR R4B resources that several of them share. Pure; plain dictionaries."""

from __future__ import annotations

from typing import Any

from llmcxr_models.observations import Code
from llmcxr_service.draft import DraftReport
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.object_ids import CODING_SCHEME_UID
from llmcxr_service.source_instance import SourceInstance

Resource = dict[str, Any]

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "99LLMCXR": f"urn:oid:{CODING_SCHEME_UID}",
}
DICOM_UID = "urn:dicom:uid"


def meta() -> Resource:
    """Says that an AI asserted this (security label AIAST)."""
    label = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "AIAST",
        "display": "Artificial Intelligence asserted",
    }
    return {"security": [label]}


def concept(code: Code) -> Resource:
    """A CodeableConcept of one code."""
    coding = {"system": _SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}
    return {"coding": [coding], "text": code.meaning}


def uid_identifier(uid: str) -> Resource:
    """A DICOM UID as FHIR writes it."""
    return {"system": DICOM_UID, "value": f"urn:oid:{uid}"}


def subject(source: SourceInstance | None) -> Resource:
    """The patient by identifier, for resources that have a `subject`; empty where unknown."""
    if source is None or not source.patient_id:
        return {}
    identifier: Resource = {"value": source.patient_id}
    if source.issuer_of_patient_id:
        identifier["assigner"] = {"display": source.issuer_of_patient_id}
    return {"subject": {"type": "Patient", "identifier": identifier}}


def narrative(*lines: str) -> Resource:
    """A generated narrative; nothing in it is taken for markup."""
    return {"status": "generated", "div": _div(lines)}


def about(draft: DraftReport) -> tuple[str, ...]:
    """Sentences that every narrative begins with."""
    return marks.notes(draft)


def _div(lines: tuple[str, ...]) -> str:
    body = "".join(f"<p>{_xml(line)}</p>" for line in lines if line)
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'


def _xml(text: str) -> str:
    # Control characters are not XML, even escaped.
    text = "".join(c for c in text if c.isprintable() or c in "\n\t")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
