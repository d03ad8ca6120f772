"""A report, a radiograph, a death of vLLM and an orderly end, all with a real vLLM.

The order matters: the last test ends the service.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL.PngImagePlugin import PngImageFile
from tests.aborts import Moment, one_wave, vllm_address
from tests.e2e.conftest import ROOT, RunningService, alive, descendants, start_service, wait_gone

from llmcxr_models.finding_tilt import TABLES, FindingTilt

pytestmark = pytest.mark.vllm

REPORT = "Findings: The heart is normal in size. The lungs are clear. Impression: Normal chest."


def draw(service: RunningService, **options: object) -> dict:
    response = service.client.post(
        "/generate-image",
        json={"report": REPORT, **options},
        headers={"Accept": "application/json"},
    )
    assert response.status_code == 200, response.text
    return response.json()


def vllm_server(service: RunningService) -> int:
    """Process id of vLLM's API server: the child that our launcher began."""
    children = (p for p in descendants(service.process.pid) if os.getsid(p) == p)
    (leader,) = (p for p in children if b"vllm_launcher" in _command_line(p))
    return leader


def _command_line(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def test_serves_the_checkpoint(service: RunningService) -> None:
    assert service.client.get("/health/live").status_code == 200
    model = service.client.get("/model").json()
    assert model["image_tokens"] == 256
    assert len(model["digest"]) == 64


def test_report_for_a_dicom_radiograph(service: RunningService) -> None:
    dicom = (ROOT / "samples" / "example-patient.dcm").read_bytes()
    response = service.client.post(
        "/generate-report", files={"file": ("x.dcm", dicom)}, data={"seed": "1", "max_tokens": "48"}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["ai_generated"] is True
    assert answer["text"].strip()
    assert answer["usage"]["prompt_tokens"] > 256
    assert "Example" not in response.text


def test_image_for_a_report_is_exactly_one_image(service: RunningService) -> None:
    answer = draw(service, seed=1)
    (image,) = answer["images"]
    assert len(image["codes"]) == 256
    assert all(0 <= code < 1024 for code in image["codes"])
    picture = PngImageFile(io.BytesIO(base64.b64decode(image["png_base64"])))
    assert picture.size == (256, 256)
    assert picture.text["AI-generated"] == "yes"


def test_same_seed_same_image(service: RunningService) -> None:
    first, again, other = (draw(service, seed=s)["images"][0]["codes"] for s in (5, 5, 6))
    assert first == again
    assert first != other


def test_an_image_leans_towards_its_report(service: RunningService) -> None:
    """As its own tables count it; place by place, so it fails if places were taken wrongly."""
    tilt, _ = FindingTilt.load(ROOT / "checkpoints" / "demo" / "llm" / TABLES)
    ill = "The heart is enlarged. There is a large pleural effusion. A pacemaker is in place."
    answers = [draw(service, seed=5, report=report, guidance=1, n=8) for report in (ill, REPORT)]
    assert answers[0]["guidance"]["towards"] == [
        "Cardiomegaly",
        "Pleural Effusion",
        "Support Devices",
    ]
    assert answers[1]["guidance"]["towards"] == ["No Finding"]
    ill_scores, normal_scores = (
        tilt.scores(np.array([image["codes"] for image in answer["images"]])).mean(axis=0)
        for answer in answers
    )
    named = [tilt.findings.index(f) for f in ("Cardiomegaly", "Pleural Effusion")]
    assert ill_scores[named].sum() > normal_scores[named].sum() + 2.0
    normal = tilt.findings.index("No Finding")
    assert normal_scores[normal] > ill_scores[normal] + 1.0
    assert draw(service, seed=5, guidance=0)["guidance"] is None


def test_many_sampled_reports_at_once_do_not_take_vllm_down(service: RunningService) -> None:
    """Together their prompts are longer than what vLLM reads in one step."""
    dicom = (ROOT / "samples" / "example-patient.dcm").read_bytes()

    def report(seed: int) -> int:
        options = {"seed": str(seed), "temperature": "0.9", "max_tokens": "4"}
        return service.client.post(
            "/generate-report", files={"file": ("x.dcm", dicom)}, data=options
        ).status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(report, range(24))) == {200}


def test_clients_that_go_away_free_vllm(service: RunningService) -> None:
    """At every moment; within two seconds vLLM works on nothing of theirs any more."""
    vllm = vllm_address(service.process.pid)
    gateway = str(service.client.base_url).rstrip("/")
    wave = asyncio.run(one_wave(gateway, vllm, random.Random(1), 40))
    assert wave.running > 0
    assert all(wave.left[moment] > 0 for moment in Moment), wave
    assert wave.free_seconds <= 2.0


def test_vllm_killed_is_503_meanwhile_and_comes_back(service: RunningService) -> None:
    server = vllm_server(service)
    family = {server} | descendants(server)
    os.kill(server, signal.SIGKILL)
    response = service.client.post("/generate-image", json={"report": REPORT})
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Content-Type"] == "application/problem+json"
    assert service.client.get("/health/ready").status_code == 503
    assert service.client.get("/health/live").status_code == 200
    # Its engine does not outlive it.
    assert not wait_gone(family, 30)
    service.wait_ready()
    assert len(draw(service)["images"][0]["codes"]) == 256


def test_sigterm_leaves_no_process_behind(service: RunningService) -> None:
    family = descendants(service.process.pid)
    assert family
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    assert not wait_gone(family, 10)


def test_killed_gateway_takes_vllm_with_it(tmp_path) -> None:
    process, _ = start_service(tmp_path / "service.log")
    try:
        deadline = time.monotonic() + 120
        while not (family := descendants(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert family, (tmp_path / "service.log").read_text()
        time.sleep(5)  # vLLM is importing, or further
        family |= descendants(process.pid)
    finally:
        process.kill()
        process.wait()
    assert not wait_gone(family, 60), alive(family)
