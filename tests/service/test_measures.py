"""What metrics say when something goes wrong, runs out or waits."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.certificates import make_certificate
from tests.checkpoints import build_checkpoint
from tests.fakes import FakeVllm, Fault
from tests.pictures import png
from tests.service.conftest import Gateway, StartGateway

from llmcxr_models.checkpoint import Checkpoint, read_manifest, write_manifest
from llmcxr_service.host_measures import HostMeasures

FINDINGS = ("normal", "cardiomegaly")


@pytest.fixture
def checkpoint_path(tmp_path: Path) -> Path:
    path = build_checkpoint(tmp_path / "checkpoint")
    write_manifest(path, replace(read_manifest(path), findings=FINDINGS))
    return path


@pytest.fixture
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return Checkpoint.open(checkpoint_path)


async def outcome(gateway: Gateway, route: str, name: str) -> float:
    return await gateway.metric("llmcxr_request_seconds_count", route=route, outcome=name)


async def test_whose_failure_a_request_was(gateway: Gateway) -> None:
    await gateway.client.post("/generate-image", json={"report": ""})
    gateway.vllm.faults.append(Fault.SERVER_ERROR)
    await gateway.client.post("/generate-image", json={"report": "Clear lungs."})
    await gateway.client.post("/generate-image", json={"report": "Clear lungs."})
    for name in ("answered", "refused", "failed"):
        assert await outcome(gateway, "/generate-image", name) == 1


async def test_validity_of_images(gateway: Gateway) -> None:
    gateway.vllm.faults.append(Fault.OUT_OF_RANGE)
    for _ in range(3):
        await gateway.client.post("/generate-image", json={"report": "Clear lungs."})
    assert await gateway.metric("llmcxr_image_answers_total") == 3
    assert await gateway.metric("llmcxr_image_tokens_invalid_total") == 1


async def test_what_answers_are_like(gateway: Gateway, vllm: FakeVllm) -> None:
    await gateway.client.post("/generate-report", content=png())
    await gateway.client.post("/reconstruct", content=png())
    labels = {"task": "report"}
    assert await gateway.metric("llmcxr_answer_tokens_count", **labels) == 1
    assert await gateway.metric("llmcxr_answer_nats_per_token_sum", **labels) > 0
    for finding in FINDINGS:
        assert await gateway.metric("llmcxr_finding_probability_count", finding=finding) == 1
    assert await gateway.metric("llmcxr_reconstruction_psnr_db_count") == 1
    for stage in ("decode", "encode"):
        assert await gateway.metric("llmcxr_wait_seconds_count", stage=stage) == 2
    assert await gateway.metric("llmcxr_stage_items", stage="generate") == 0
    vllm.answer = [read_stop(gateway)]
    await gateway.client.post("/instruct", json={"instruction": "Say nothing."})
    assert await gateway.metric("llmcxr_empty_answers_total", task="instruction") == 1
    assert await gateway.metric("llmcxr_warned_answers_total", task="instruction") == 1


def read_stop(gateway: Gateway) -> int:
    """The token that ends an answer."""
    stops: tuple[int, ...] = gateway.app.state.runtime.checkpoint.manifest.vocabulary.stop_token_ids
    return stops[0]


async def test_audit_events_that_are_lost_are_counted(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    async with start_gateway(audit=audit) as gateway:
        assert await gateway.metric("llmcxr_audit_failures_total", step="append") == 0
        fill_the_disk_of(audit / "audit-local.jsonl")
        response = await gateway.client.post("/generate-image", json={"report": "Clear lungs."})
        assert response.status_code == 200
        assert await gateway.metric("llmcxr_audit_failures_total", step="append") == 1


def fill_the_disk_of(path: Path) -> None:
    """Whoever has this file open writes to a device that is full."""
    full = os.open("/dev/full", os.O_RDWR)
    for link in Path("/proc/self/fd").iterdir():
        if os.path.realpath(link) == str(path):
            os.dup2(full, int(link.name))
    os.close(full)


async def test_jobs_that_wait(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with start_gateway(jobs=True, spool=tmp_path / "spool") as gateway:
        gateway.vllm.delay_seconds = 3600.0
        body = {"task": "generate-image", "items": [{"report": "Clear lungs."}] * 3}
        assert (await gateway.client.post("/jobs", json=body)).status_code == 202
        async with asyncio.timeout(90.0):
            while await gateway.metric("llmcxr_job_items_waiting") != 3:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await gateway.metric("llmcxr_jobs_running") == 1
        assert await gateway.metric("llmcxr_job_oldest_seconds") > 0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sample(registry: CollectorRegistry) -> Callable[..., float | None]:
    return lambda name, **labels: registry.get_sample_value(name, labels)


def test_disks_and_certificates(
    tmp_path: Path, registry: CollectorRegistry, sample: Callable[..., float | None]
) -> None:
    certificate = make_certificate(tmp_path)
    (tmp_path / "no.pem").write_text("no certificate")
    places = {"spool": tmp_path, "audit": tmp_path / "not there yet"}
    files = {"http": certificate.server, "dicom": tmp_path / "no.pem", "issuer": tmp_path / "gone"}
    HostMeasures(registry, places, files).show()
    assert sample("llmcxr_disk_size_bytes", place="spool") == shutil.disk_usage(tmp_path).total
    assert sample("llmcxr_disk_free_bytes", place="audit") is None
    ends = sample("llmcxr_certificate_expiry_timestamp_seconds", certificate="http")
    assert ends is not None
    assert ends > time.time()
    for name in ("dicom", "issuer"):
        assert sample("llmcxr_certificate_expiry_timestamp_seconds", certificate=name) is None
