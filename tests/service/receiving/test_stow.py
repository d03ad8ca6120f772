"""STOW-RS: dicomweb-client against the real application on a socket, and what is wrong."""

from __future__ import annotations

import io
import uuid

import httpx
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid
from tests.pictures import PATIENT, PATIENT_ID, png
from tests.service.receiving.conftest import LIMIT, instance, wait_for

CT = "1.2.840.10008.5.1.4.1.1.2"
RELATED = 'multipart/related; type="application/dicom"; boundary={}'
TYPE = RELATED.format("B")


def post(hospital, *parts, path="/dicom-web/studies", boundary="B", part_type="application/dicom"):
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode() + part + b"\r\n"
        for part in parts
    )
    return send(hospital, body + f"--{boundary}--\r\n".encode(), path, RELATED.format(boundary))


def send(hospital, body, path="/dicom-web/studies", content_type=TYPE, **headers):
    return httpx.post(
        hospital.url + path,
        content=body,
        headers={"Content-Type": content_type, **headers},
        trust_env=False,
        timeout=30,
    )


def uid(data):
    return str(dcmread(io.BytesIO(data)).SOPInstanceUID)


def reasons(response, sequence="00081198"):
    return [item["00081197"]["Value"][0] for item in response.json()[sequence]["Value"]]


def test_dicomweb_client_stores_and_the_results_reach_the_archive(hospital):
    study = generate_uid()
    files = [dcmread(io.BytesIO(instance(StudyInstanceUID=study))) for _ in range(2)]
    session = requests.Session()
    session.trust_env = False
    client = DICOMwebClient(f"{hospital.url}/dicom-web", session=session)
    answer = client.store_instances(files, study)
    stored = [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence]
    assert stored == [file.SOPInstanceUID for file in files]
    assert "FailedSOPSequence" not in answer
    results = [dcmread(io.BytesIO(data)) for data in hospital.results_in(study, 4)]
    assert sorted(result.Modality for result in results) == ["OT", "OT", "SR", "SR"]
    assert {result.PatientID for result in results} == {PATIENT_ID}


def test_the_same_again_is_worked_on_once(hospital):
    study = generate_uid()
    data = instance(StudyInstanceUID=study)
    for _ in range(3):
        assert post(hospital, data).status_code == 200
    assert len(hospital.results_in(study, 2)) == 2
    assert post(hospital, data).status_code == 200
    queue = hospital.runtime.deliveries.ledger
    wait_for(lambda: not any(e.state in ("queued", "working") for e in queue.entries()))
    assert len(hospital.results_in(study, 2)) == 2
    assert hospital.archive.changed == 0


def test_some_are_stored(hospital):
    good, ct, no_dicom = instance(), instance(SOPClassUID=CT, Modality="CT"), png()
    response = post(hospital, ct, good, no_dicom)
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/dicom+json"
    answer = response.json()
    assert answer["00081190"] == {"vr": "UR"}
    stored = answer["00081199"]["Value"]
    assert [item["00081155"]["Value"][0] for item in stored] == [uid(good)]
    assert reasons(response) == [0x0122]
    assert answer["00081198"]["Value"][0]["00081150"]["Value"] == [CT]
    assert reasons(response, "0008119A") == [0xC000]
    assert PATIENT not in response.text
    assert PATIENT_ID not in response.text


def test_none_is_stored(hospital):
    deflated = dcmread(io.BytesIO(instance()))
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    deflated.save_as(buffer)
    response = post(hospital, buffer.getvalue(), instance()[:200], b"")
    assert response.status_code == 409
    assert reasons(response, "0008119A") == [0xC122, 0xC000, 0xC000]


def test_what_a_rule_ignores_is_accepted_and_dropped(hospital):
    before = hospital.received("stow", "ignored")
    data = instance(BodyPartExamined="HAND")
    assert post(hospital, data).status_code == 200
    assert hospital.received("stow", "ignored") == before + 1


def test_of_another_study(hospital):
    mine, other = instance(StudyInstanceUID="1.2.3"), instance()
    response = post(hospital, mine, other, path="/dicom-web/studies/1.2.3")
    assert response.status_code == 202
    assert reasons(response) == [0xA901]


@pytest.mark.parametrize("study", ["x", "1..2", "01.2", "1." * 40 + "1", "1.2.3%0A", "1"])
def test_a_study_that_is_none(hospital, study):
    response = post(hospital, instance(), path=f"/dicom-web/studies/{study}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "study"


def test_an_instance_over_the_limit_does_not_spoil_the_others(hospital):
    response = post(hospital, instance() + bytes(LIMIT), instance())
    assert response.status_code == 202
    assert reasons(response, "0008119A") == [0xC001]
    assert hospital.received("stow", "too-large") >= 1


def test_a_body_over_the_limit(hospital):
    response = post(hospital, *(bytes(290_000) for _ in range(8)))
    assert response.status_code == 413


@pytest.mark.parametrize(
    "boundary", ["a", "x" * 70, "--", uuid.uuid4().hex, '"quoted boundary"', "b'()+_,-./:=?"]
)
def test_boundaries(hospital, boundary):
    name = boundary.strip('"')
    body = f"--{name}\r\nContent-Type: application/dicom; transfer-syntax=*\r\n\r\n".encode()
    body += instance(BodyPartExamined="HAND") + f"\r\n--{name}--".encode()
    quoted = boundary if boundary.startswith('"') else f'"{boundary}"'
    assert send(hospital, body, content_type=RELATED.format(quoted)).status_code == 200


def test_part_headers_may_be_missing(hospital):
    data = instance(BodyPartExamined="HAND")
    body = b"\r\n--B\r\n\r\n" + data + b"\r\n--B\r\nContent-Length: 1\r\nX: y\r\n\r\n" + data
    assert send(hospital, body + b"\r\n--B--\r\nepilogue").status_code == 200


@pytest.mark.parametrize(
    ("body", "content_type", "status", "slug"),
    [
        (b"", "application/dicom", 415, "unsupported-media"),
        (b"", "multipart/form-data; boundary=B", 415, "unsupported-media"),
        (b"", 'multipart/related; type="application/dicom+json"; boundary=B', 415, None),
        (b"", "multipart/related; type=application/dicom", 400, "malformed-multipart"),
        (b"", RELATED.format("x" * 71), 400, "malformed-multipart"),
        (b"", RELATED.format("B"), 400, "malformed-multipart"),
        (b"--B--\r\n", RELATED.format("B"), 400, "malformed-multipart"),
        (b"--B\r\n\r\nabc", RELATED.format("B"), 400, "malformed-multipart"),
        (b"SMITH^JOHN", RELATED.format("B"), 400, "malformed-multipart"),
        (b"--B\r\n" + b"x" * 5000 + b": y\r\n\r\n", RELATED.format("B"), 400, None),
        (b"--B\r\n" + b"a: b\r\n" * 50 + b"\r\n", RELATED.format("B"), 400, None),
        (b"--B\r\n\r\n\r\n" * 501 + b"--B--", RELATED.format("B"), 400, "malformed-multipart"),
    ],
)
def test_malformed(hospital, body, content_type, status, slug):
    response = send(hospital, body, content_type=content_type)
    assert response.status_code == status, response.text
    problem = response.json()
    assert slug is None or problem["type"] == f"/problems/{slug}"
    assert "SMITH" not in response.text


def test_a_part_of_another_type(hospital):
    assert post(hospital, png(), part_type="image/png").status_code == 415


def test_accept(hospital):
    data = b"--B\r\n\r\n" + instance(BodyPartExamined="HAND") + b"\r\n--B--"
    assert send(hospital, data, Accept="application/dicom+xml").status_code == 406
    response = send(hospital, data, Accept="application/json")
    assert response.headers["content-type"] == "application/json"


def test_the_queue_is_away(hospital):
    jobs = hospital.settings.spool / "jobs"
    away = jobs.rename(jobs.with_name("away"))
    jobs.touch()
    try:
        response = post(hospital, instance())
        assert response.status_code == 503
        assert response.json()["type"] == "/problems/queue-unavailable"
        assert int(response.headers["retry-after"]) > 0
        mixed = post(hospital, instance(), instance(BodyPartExamined="HAND"))
        assert mixed.status_code == 202
        assert reasons(mixed) == [0xA700]
    finally:
        jobs.unlink()
        away.rename(jobs)
    assert post(hospital, instance()).status_code == 200


def test_a_study_in_the_url_never_reaches_metrics(hospital):
    post(hospital, instance(StudyInstanceUID="1.2.3.4711"), path="/dicom-web/studies/1.2.3.4711")
    wait_for(lambda: True)
    text = httpx.get(f"{hospital.url}/metrics", trust_env=False).text
    assert "4711" not in text
    assert '/dicom-web/studies/{study}"' in text


async def test_not_set_up(gateway):
    response = await gateway.client.post(
        "/dicom-web/studies", content=b"", headers={"Content-Type": RELATED.format("B")}
    )
    assert response.status_code == 404
    assert response.json()["type"] == "/problems/receiving-disabled"
