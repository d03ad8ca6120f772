"""The draft as FHIR R4B: a transaction of DiagnosticReport, Observations, Device, Provenance.

Every resource has an id that follows from its content and is PUT, so that a bundle that is sent
twice is stored once. A server has to accept ids that its clients choose.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from llmcxr_models.observations import Code, Observation
from llmcxr_service.draft import DraftReport, derived_uid
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.fhir_parts import (
    Resource,
    about,
    concept,
    meta,
    narrative,
    subject,
    uid_identifier,
)
from llmcxr_service.outputs.identity import clean_values
from llmcxr_service.outputs.object_ids import (
    content_digest,
    findings_content,
    percent,
    report_content,
    uuid_of,
)

_REPORT = Code("18748-4", "LN", "Diagnostic imaging study")
_PROBABILITY = Code("111012", "DCM", "Certainty of Finding")
_MENTIONED = Code("MENTIONED", "99LLMCXR", "Affirmed by the text of the AI draft report")
_CATEGORY = "http://terminology.hl7.org/CodeSystem"


def fhir_report(draft: DraftReport) -> bytes:
    """The bundle as JSON; without a subject where the picture has no identity."""
    return json.dumps(fhir_bundle(draft), ensure_ascii=False).encode("utf-8")


def fhir_bundle(draft: DraftReport) -> Resource:
    """The bundle as a dictionary."""
    ids = _Ids(draft)
    device = _device(draft, ids)
    observations = [_observation(o, draft, ids) for o in draft.observations]
    report = _report(draft, ids)
    provenance = _provenance(draft, ids, [report, *observations])
    return {
        "resourceType": "Bundle",
        "meta": meta(),
        "type": "transaction",
        "timestamp": _instant(draft),
        "entry": [_entry(r) for r in (device, *observations, report, provenance)],
    }


class _Ids:
    """Ids of the resources: UUIDs that follow from what they say."""

    def __init__(self, draft: DraftReport) -> None:
        instance = draft.source.sop_instance_uid if draft.source else ""
        content = content_digest(*report_content(draft), *findings_content(draft))
        # Without an instance nothing but the moment tells two drafts apart.
        moment = "" if draft.source else draft.created.isoformat()
        self._parts = (instance, draft.model.digest, content, moment)
        self._digest = draft.model.digest

    def of(self, kind: str, *more: str) -> str:
        return uuid_of(derived_uid(f"fhir-{kind}", *self._parts, *more))

    def device(self) -> str:
        return uuid_of(derived_uid("device", self._digest))


def _entry(resource: Resource) -> Resource:
    path = f"{resource['resourceType']}/{resource['id']}"
    return {
        "fullUrl": f"urn:uuid:{resource['id']}",
        "resource": resource,
        "request": {"method": "PUT", "url": path},
    }


def _reference(resource_type: str, identity: str) -> Resource:
    return {"reference": f"urn:uuid:{identity}", "type": resource_type}


def _device(draft: DraftReport, ids: _Ids) -> Resource:
    model = draft.model
    return {
        "resourceType": "Device",
        "id": ids.device(),
        "meta": meta(),
        "identifier": [uid_identifier(derived_uid("device", model.digest))],
        "manufacturer": marks.MANUFACTURER,
        "serialNumber": f"sha256:{model.digest}",
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "version": [{"value": model.version}],
        "type": concept(Code("123110", "DCM", "Artificial Intelligence")),
        "note": [{"text": marks.model_line(model)}],
    }


def _report(draft: DraftReport, ids: _Ids) -> Resource:
    report = draft.report
    notes = about(draft)
    text = "\n".join((*notes, report.text))
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": ids.of("report"),
        "meta": meta(),
        "language": draft.language,
        "text": narrative(*notes, report.findings, report.impression),
        "identifier": [uid_identifier(derived_uid("fhir-report-identifier", ids.of("report")))],
        "status": "preliminary",
        "category": [
            {"coding": [{"system": f"{_CATEGORY}/v2-0074", "code": "RAD", "display": "Radiology"}]}
        ],
        "code": concept(_REPORT),
        **subject(draft.source),
        "issued": _instant(draft),
        "performer": [_reference("Device", ids.device())],
        "result": [
            _reference("Observation", ids.of("observation", o.finding.name))
            for o in draft.observations
        ],
        "conclusion": report.impression,
        "presentedForm": [
            {
                "contentType": "text/plain; charset=utf-8",
                "language": draft.language,
                "data": base64.b64encode(text.encode()).decode(),
                "title": "AI draft report, preliminary and unverified",
                "creation": _instant(draft),
            }
        ],
        **_study(draft),
    }
    # FHIR has no empty lists and no empty strings.
    return {name: value for name, value in resource.items() if value not in ("", [])}


def _study(draft: DraftReport) -> Resource:
    """Which study it is about, in the report's fields for that."""
    source = draft.source
    if source is None:
        return {}
    values = clean_values(source)
    study = {"type": "ImagingStudy", "identifier": uid_identifier(source.study_instance_uid)}
    fields: Resource = {"imagingStudy": [study]}
    if values["StudyDate"]:
        date = values["StudyDate"]
        fields["effectiveDateTime"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    if values["AccessionNumber"]:
        kind = {"coding": [{"system": f"{_CATEGORY}/v2-0203", "code": "ACSN"}]}
        identifier = {"type": kind, "value": values["AccessionNumber"]}
        fields["basedOn"] = [{"type": "ServiceRequest", "identifier": identifier}]
    return fields


def _observation(observation: Observation, draft: DraftReport, ids: _Ids) -> Resource:
    finding = observation.finding
    certainty = percent(observation.probability)
    components: list[dict[str, Any]] = [
        {
            "code": concept(_PROBABILITY),
            "valueQuantity": {
                "value": certainty,
                "unit": "%",
                "system": "http://unitsofmeasure.org",
                "code": "%",
            },
        }
    ]
    if observation.mentioned is not None:
        components.append({"code": concept(_MENTIONED), "valueBoolean": observation.mentioned})
    line = f"{finding.code.meaning}: AI probability {certainty:.1f} %."
    return {
        "resourceType": "Observation",
        "id": ids.of("observation", finding.name),
        "meta": meta(),
        "text": narrative(*about(draft), marks.UNCALIBRATED, line),
        "status": "preliminary",
        "category": [
            {"coding": [{"system": f"{_CATEGORY}/observation-category", "code": "imaging"}]}
        ],
        "code": concept(finding.code),
        **subject(draft.source),
        "issued": _instant(draft),
        "device": _reference("Device", ids.device()),
        "note": [{"text": marks.UNCALIBRATED}],
        "component": components,
    }


def _provenance(draft: DraftReport, ids: _Ids, targets: list[Resource]) -> Resource:
    resource: Resource = {
        "resourceType": "Provenance",
        "id": ids.of("provenance"),
        "meta": meta(),
        "target": [_reference(t["resourceType"], t["id"]) for t in targets],
        "recorded": _instant(draft),
        "activity": {
            "coding": [
                {
                    "system": f"{_CATEGORY}/v3-DataOperation",
                    "code": "CREATE",
                    "display": "create",
                }
            ],
            "text": f"Drafted by AI. {marks.how_line(draft)}",
        },
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": f"{_CATEGORY}/provenance-participant-type",
                            "code": "author",
                            "display": "Author",
                        }
                    ]
                },
                "who": _reference("Device", ids.device()),
            }
        ],
    }
    if draft.source is not None:
        what = {"identifier": uid_identifier(draft.source.sop_instance_uid)}
        resource["entity"] = [{"role": "source", "what": what}]
    return resource


def _instant(draft: DraftReport) -> str:
    return draft.created.isoformat(timespec="seconds")
