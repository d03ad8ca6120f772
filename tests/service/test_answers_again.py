"""Every answer, in every form, says what it takes to ask for it again: model, digest, seed,
sampling, preprocessing. Files that leave the service say it themselves, not only in headers.
"""

import asyncio
import time
from dataclasses import replace

import pytest
from pydicom.uid import generate_uid
from tests.checkpoints import build_checkpoint
from tests.pictures import dicom

from llmcxr_models.checkpoint import Checkpoint, read_manifest, write_manifest
from llmcxr_service.outputs.formats import REPORT_MEDIA_TYPES

HOW = {"seed": 5, "temperature": 0.7, "top_p": 0.8}
SENTENCE = "seed 5, temperature 0.7, top_p 0.8"
LENGTH = "at most 24 tokens"
RADIOGRAPH = dicom(
    StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), AccessionNumber="A1"
)


@pytest.fixture
def checkpoint_path(tmp_path):
    path = build_checkpoint(tmp_path / "checkpoint")
    write_manifest(path, replace(read_manifest(path), findings=("normal", "cardiomegaly")))
    return path


@pytest.fixture
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def upload(gateway, path, accept, **fields):
    response = await gateway.client.post(
        path,
        files={"file": ("r", RADIOGRAPH)},
        data={name: str(value) for name, value in (HOW | fields).items()},
        headers={"Accept": accept},
    )
    assert response.status_code == 200, response.text
    return response


async def send(gateway, path, accept, **fields):
    response = await gateway.client.post(path, json=HOW | fields, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response


def check_json(answer, manifest, *, longest=None, preprocessing=None):
    assert answer["model"] == {"name": "tiny", "version": "0.0.1", "digest": manifest.digest}
    assert answer["seed"] == 5
    assert answer["sampling"] == {"temperature": 0.7, "top_p": 0.8, "max_tokens": longest}
    assert answer.get("preprocessing") == preprocessing


def check_headers(headers, manifest, *, longest=None, preprocessing=None):
    assert headers["x-model-name"] == "tiny"
    assert headers["x-model-digest"] == manifest.digest
    assert (headers["x-seed"], headers["x-temperature"], headers["x-top-p"]) == ("5", "0.7", "0.8")
    assert headers.get("x-max-tokens") == longest
    assert headers.get("x-preprocessing") == preprocessing
    assert float(headers["x-mean-log-probability"]) < 0


async def test_reports_and_questions(gateway, checkpoint):
    manifest = checkpoint.manifest
    for path, fields in (("/generate-report", {}), ("/answer-question", {"question": "Normal?"})):
        fields = {"max_tokens": 24} | fields
        told = {"preprocessing": manifest.preprocessing.name}
        answer = await upload(gateway, path, "application/json", **fields)
        check_json(answer.json(), manifest, longest=24, **told)
        text = await upload(gateway, path, "text/plain", **fields)
        check_headers(text.headers, manifest, longest="24", **told)
        stream = (await upload(gateway, path, "text/event-stream", **fields)).text
        for event in ("meta", "done"):
            (data,) = [b for b in stream.split("\n\n") if b.startswith(f"event: {event}\n")]
            assert manifest.digest in data
            assert '"seed":5' in data
            assert '"temperature":0.7,"top_p":0.8,"max_tokens":24' in data
            assert manifest.preprocessing.name in data


@pytest.mark.parametrize("media_type", REPORT_MEDIA_TYPES)
async def test_reports_as_hospitals_store_them(gateway, checkpoint, media_type):
    manifest = checkpoint.manifest
    told = {"preprocessing": manifest.preprocessing.name}
    response = await upload(gateway, "/generate-report", media_type, max_tokens=24)
    check_headers(response.headers, manifest, longest="24", **told)
    said = response.content.decode("utf-8", "replace")
    for part in (manifest.digest, SENTENCE, LENGTH, manifest.preprocessing.name):
        assert part in said, part


async def test_instructions(gateway, checkpoint):
    fields = {"instruction": "List.", "max_tokens": 24}
    answer = await send(gateway, "/instruct", "application/json", **fields)
    check_json(answer.json(), checkpoint.manifest, longest=24)
    text = await send(gateway, "/instruct", "text/plain", **fields)
    check_headers(text.headers, checkpoint.manifest, longest="24")


async def test_images(gateway, checkpoint):
    manifest, fields = checkpoint.manifest, {"report": "Clear lungs."}
    answer = await send(gateway, "/generate-image", "application/json", **fields)
    check_json(answer.json(), manifest)
    for accept in ("image/png", "application/dicom"):
        response = await send(gateway, "/generate-image", accept, **fields)
        check_headers(response.headers, manifest)
        said = response.content.decode("latin-1")
        assert manifest.digest in said
        assert SENTENCE in said
    several = await send(
        gateway, "/generate-image", 'multipart/related; type="application/dicom"', n=2, **fields
    )
    said = several.content.decode("latin-1")
    assert SENTENCE in said
    assert SENTENCE.replace("5", "6") in said


async def test_a_reconstruction_has_no_seed(gateway, checkpoint):
    manifest = checkpoint.manifest
    for accept in ("application/json", "image/png"):
        response = await gateway.client.post(
            "/reconstruct", content=RADIOGRAPH, headers={"Accept": accept}
        )
        told = response.json() if accept == "application/json" else response.headers
        assert manifest.digest in str(told)
        assert manifest.preprocessing.name in str(told)


async def test_items_of_jobs(start_gateway, checkpoint, tmp_path):
    async with start_gateway(jobs=True, spool=tmp_path / "spool") as gateway:
        files = await gateway.client.post(
            "/jobs",
            files={"file": ("r", RADIOGRAPH)},
            data={name: str(value) for name, value in HOW.items()} | {"max_tokens": "24"},
        )
        item = {"report": "Clear lungs."} | HOW
        batch = await gateway.client.post("/jobs", json={"task": "generate-image", "items": [item]})
        deadline = time.monotonic() + 120.0
        answers = []
        for job in (files.json()["id"], batch.json()["id"]):
            while (await gateway.client.get(f"/jobs/{job}")).json()["state"] == "running":
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            answers.append((await gateway.client.get(f"/jobs/{job}/results/0")).json())
    report, images = answers
    manifest = checkpoint.manifest
    check_json(report, manifest, longest=24, preprocessing=manifest.preprocessing.name)
    check_json(images, manifest)


async def test_doubt_is_in_headers_where_there_is_no_json(gateway):
    fields = {"n": 3, "max_tokens": 24}
    answer = (await upload(gateway, "/generate-report", "application/json", **fields)).json()
    for accept in ("text/plain", "application/fhir+json"):
        headers = (await upload(gateway, "/generate-report", accept, **fields)).headers
        assert headers["x-candidates"] == "3"
        assert headers["x-seed"] == str(answer["seed"])
        assert float(headers["x-agreement-findings"]) == answer["agreement"]["findings"]
        assert float(headers["x-agreement-text"]) == answer["agreement"]["text"]
        assert float(headers["x-mean-log-probability"]) == pytest.approx(
            answer["mean_log_probability"], abs=1e-6
        )
