"""The draft as an HL7 v2.5.1 ORU^R01 message, every result preliminary.

The study's UID and the accession number say what it is about; text and probabilities are OBX.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from llmcxr_models.observations import Code, Observation
from llmcxr_service.draft import DraftReport, derived_uid
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.hl7_text import components, escape, message, person_name, segment
from llmcxr_service.outputs.identity import clean_values, no_identity, require_source
from llmcxr_service.outputs.object_ids import (
    content_digest,
    findings_content,
    percent,
    report_content,
)

_PRELIMINARY = "P"
_REPORT = components("18748-4", "Diagnostic imaging report", "LN")
_FINDINGS = components("18782-3", "Radiology Study observation", "LN")
_IMPRESSION = components("19005-8", "Radiology Imaging study impression", "LN")
_STUDY_UID = components("113014", "DICOM Study", "DCM")
_NOTICE = components("NOTICE", "Note on the AI draft", "99LLMCXR")
_SCHEMES = {"SCT": "SCT", "LN": "LN"}


@dataclass(frozen=True)
class Hl7Parties:
    """Who speaks to whom: MSH-3 to MSH-6."""

    sending_application: str = "LLMCXR"
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""


_ANYBODY = Hl7Parties()


def hl7_report(draft: DraftReport, parties: Hl7Parties = _ANYBODY) -> bytes:
    """The message, UTF-8, segments ended by carriage returns, without MLLP framing.

    Raises:
        UnsupportedRadiograph: the picture has no identity, or no patient id (PID-3 needs one).
    """
    return message(
        [_header(draft, parties), _patient(draft), *_order(draft), *_observations(draft)]
    )


def _header(draft: DraftReport, parties: Hl7Parties) -> str:
    source = require_source(draft)
    content = content_digest(
        source.sop_instance_uid, draft.model.digest, report_content(draft), findings_content(draft)
    )
    fields = {
        1: "^~\\&",
        3: parties.sending_application,
        4: parties.sending_facility,
        5: parties.receiving_application,
        6: parties.receiving_facility,
    }
    # MSH-1 is the separator itself, so that the field after the name is MSH-2.
    encoded = {number - 1: escape(value) for number, value in fields.items() if number > 1}
    return segment(
        "MSH",
        encoded
        | {
            1: fields[1],
            6: _time(draft),
            8: components("ORU", "R01", "ORU_R01"),
            # ST, 20 characters; the same draft sent again is the same message.
            9: hashlib.sha256(content.encode()).hexdigest()[:20].upper(),
            10: _PRELIMINARY,  # MSH-11, processing id: P is production
            11: "2.5.1",
            17: "UNICODE UTF-8",
        },
    )


def _patient(draft: DraftReport) -> str:
    source = require_source(draft)
    values = clean_values(source)
    if not values["PatientID"]:
        raise no_identity()
    return segment(
        "PID",
        {
            1: "1",
            3: components(values["PatientID"], "", "", values["IssuerOfPatientID"], "MR"),
            5: person_name(values["PatientName"]) or components("", "", "", "", "", "", "U"),
            7: values["PatientBirthDate"],
            8: values["PatientSex"],
        },
    )


def _order(draft: DraftReport) -> list[str]:
    values = clean_values(require_source(draft))
    accession = escape(values["AccessionNumber"])
    study_time = values["StudyDate"] + values["StudyTime"] if values["StudyDate"] else ""
    return [
        segment("ORC", {1: "RE", 3: accession}),
        segment(
            "OBR",
            {
                1: "1",
                3: accession,
                4: _REPORT,
                7: study_time[:14],
                18: accession,  # where IHE Radiology keeps the accession number
                22: _time(draft),
                24: "RAD",
                25: _PRELIMINARY,
            },
        ),
    ]


def _observations(draft: DraftReport) -> list[str]:
    rows = [
        ("ST", _STUDY_UID, escape(require_source(draft).study_instance_uid), ""),
        *(("TX", _NOTICE, escape(note), "") for note in marks.notes(draft)),
    ]
    for name, body in ((_FINDINGS, draft.report.findings), (_IMPRESSION, draft.report.impression)):
        if body:
            rows.append(("TX", name, escape(body), ""))
    if draft.observations:
        rows.append(("TX", _NOTICE, escape(marks.UNCALIBRATED), ""))
        rows += [_probability(observation) for observation in draft.observations]
    return [_result(number, row, draft) for number, row in enumerate(rows, start=1)]


def _probability(observation: Observation) -> tuple[str, str, str, str]:
    code = observation.finding.code
    meaning = f"{code.meaning}: AI probability, uncalibrated"
    return (
        "NM",
        _coded(Code(code.value, code.scheme, meaning)),
        f"{percent(observation.probability):.1f}",
        components("%", "percent", "UCUM"),
    )


def _coded(code: Code) -> str:
    return components(code.value, code.meaning, _SCHEMES.get(code.scheme, code.scheme))


def _result(number: int, row: tuple[str, str, str, str], draft: DraftReport) -> str:
    kind, name, value, units = row
    return segment(
        "OBX",
        {
            1: str(number),
            2: kind,
            3: name,
            5: value,
            6: units,
            11: _PRELIMINARY,
            14: _time(draft),
            # OBX-18, equipment: the model, with the UID that follows from its digest.
            18: components(draft.model.name, "", derived_uid("device", draft.model.digest), "ISO"),
        },
    )


def _time(draft: DraftReport) -> str:
    return draft.created.strftime("%Y%m%d%H%M%S%z")
