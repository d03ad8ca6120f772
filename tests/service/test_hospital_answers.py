"""Accept on /generate-report and /generate-image: the forms that hospitals store."""

import io
import json
from dataclasses import replace
from email import message_from_bytes

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from tests.checkpoints import build_checkpoint
from tests.pictures import PATIENT, PATIENT_ID, dicom, png

from llmcxr_models.checkpoint import Checkpoint, read_manifest, write_manifest

STUDY, SERIES = generate_uid(), generate_uid()
ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"


def radiograph(**changes):
    identity = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "AccessionNumber": "A1"}
    return dicom(**(identity | changes))


@pytest.fixture
def checkpoint_path(tmp_path):
    path = build_checkpoint(tmp_path / "checkpoint")
    write_manifest(path, replace(read_manifest(path), findings=("normal", "cardiomegaly")))
    return path


@pytest.fixture
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def report(gateway, accept, data=None):
    return await gateway.client.post(
        "/generate-report",
        files={"file": ("r", radiograph() if data is None else data)},
        data={"seed": "5"},
        headers={"Accept": accept},
    )


@pytest.mark.parametrize(
    ("accept", "sop_class"),
    [
        ("application/dicom", ENHANCED),
        ("application/dicom; profile=enhanced-sr", ENHANCED),
        ("application/dicom; profile=comprehensive-3d-sr", "1.2.840.10008.5.1.4.1.1.88.34"),
        ("application/dicom; profile=secondary-capture", "1.2.840.10008.5.1.4.1.1.7"),
    ],
)
async def test_a_report_as_dicom(gateway, checkpoint, accept, sop_class):
    response = await report(gateway, accept)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/dicom; profile=")
    assert response.headers["x-ai-generated"] == "true"
    assert response.headers["x-seed"] == "5"
    result = dcmread(io.BytesIO(response.content))
    assert result.SOPClassUID == sop_class
    assert result.StudyInstanceUID == STUDY
    assert result.SeriesInstanceUID != SERIES
    assert (str(result.PatientName), result.PatientID) == (PATIENT, PATIENT_ID)
    assert result.AccessionNumber == "A1"
    assert result.DeviceSerialNumber == checkpoint.manifest.digest


async def test_the_same_request_is_the_same_object(gateway):
    data = radiograph()
    first, again = [
        dcmread(io.BytesIO((await report(gateway, "application/dicom", data)).content))
        for _ in range(2)
    ]
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID


async def test_a_report_as_fhir_with_and_without_identity(gateway):
    response = await report(gateway, "application/fhir+json")
    assert response.headers["content-type"] == "application/fhir+json; fhirVersion=4.3"
    kinds = [entry["resource"]["resourceType"] for entry in response.json()["entry"]]
    assert kinds == ["Device", "Observation", "Observation", "DiagnosticReport", "Provenance"]
    assert STUDY in response.text
    for data in (png(), dicom()):
        response = await report(gateway, "application/fhir+json; fhirVersion=4.0", data)
        assert response.status_code == 200
        assert "subject" not in json.dumps(response.json())


@pytest.mark.parametrize("kind", ["application/hl7-v2+er7", "x-application/hl7-v2+er7"])
async def test_a_report_as_hl7(gateway, kind):
    response = await report(gateway, kind)
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    assert response.text.startswith("MSH|^~\\&|LLMCXR|")
    assert "\rOBR|1||A1|" in response.text


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom",
        "application/dicom; profile=secondary-capture",
        "application/hl7-v2+er7",
    ],
)
async def test_without_identity_it_is_refused_before_the_model_is_asked(gateway, accept):
    for data in (png(), dicom(), radiograph(StudyInstanceUID="")):
        response = await report(gateway, accept, data)
        assert response.status_code == 422
        assert response.json()["reason"] == "no-identity"
    assert gateway.vllm.requests == []


async def test_hl7_needs_a_patient_id(gateway):
    response = await report(gateway, "application/hl7-v2+er7", radiograph(PatientID=""))
    assert response.status_code == 422
    assert response.json()["reason"] == "no-identity"


async def test_a_damaged_file_is_damaged_whatever_is_accepted(gateway):
    response = await report(gateway, "application/dicom", radiograph()[:-500])
    assert response.status_code == 400, response.text


async def test_what_is_not_offered(gateway):
    for accept in (
        "application/dicom; profile=unknown",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50",
        "application/fhir+json; fhirVersion=5.0",
    ):
        assert (await report(gateway, accept)).status_code == 406
    assert gateway.vllm.requests == []


async def test_findings_need_a_checkpoint_that_gives_some(start_gateway, tmp_path):
    plain = build_checkpoint(tmp_path / "plain")
    manifest = read_manifest(plain)
    async with start_gateway(checkpoint=plain) as gateway:
        gateway.vllm.served_name = manifest.served_name
        response = await report(gateway, "application/dicom; profile=comprehensive-3d-sr")
    assert response.status_code == 406
    assert response.json()["reason"] == "no-observations"


async def test_no_identifier_in_a_refusal(gateway):
    data = radiograph(PatientID="", PatientName="CANARY^ONE", AccessionNumber="CANARY-2")
    response = await report(gateway, "application/hl7-v2+er7", data)
    assert "CANARY" not in response.text + str(response.headers)


async def images(gateway, accept, **options):
    body = {"report": "PROMPT-CANARY. Clear.", "seed": 1} | options
    return await gateway.client.post("/generate-image", json=body, headers={"Accept": accept})


async def test_a_synthetic_image_as_dicom(gateway):
    response = await images(gateway, "application/dicom")
    assert response.status_code == 200, response.text
    result = dcmread(io.BytesIO(response.content))
    assert result.SyntheticData == "YES"
    assert result.BurnedInAnnotation == "YES"
    assert b"CANARY" not in response.content
    again = await images(gateway, "application/dicom")
    assert dcmread(io.BytesIO(again.content)).SOPInstanceUID == result.SOPInstanceUID


async def test_several_synthetic_images_are_parts(gateway):
    assert (await images(gateway, "application/dicom", n=2)).status_code == 406
    response = await images(gateway, 'multipart/related; type="application/dicom"', n=2)
    kind = response.headers["content-type"]
    assert kind.startswith('multipart/related; type="application/dicom"; boundary=')
    whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + response.content)
    parts = [part.get_payload(decode=True) for part in whole.get_payload()]
    results = [dcmread(io.BytesIO(part)) for part in parts]
    assert len({result.SOPInstanceUID for result in results}) == 2
    assert len({result.StudyInstanceUID for result in results}) == 2
