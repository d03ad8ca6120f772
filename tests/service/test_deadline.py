"""A caller's Request-Timeout: read, kept, passed on; and admission that counts with it."""

import asyncio
import math
from collections import Counter

import pytest
from tests.fakes import Fault

from llmcxr_service.errors import Overloaded
from llmcxr_service.limits import Admission

REPORT = {"report": "Clear."}


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "nan", "inf", "1e3", "1,5", "soon", "99999", "0x1", "1.2345"]
)
async def test_a_header_that_is_no_time_is_refused(gateway, value):
    response = await gateway.client.post(
        "/generate-image", json=REPORT, headers={"Request-Timeout": value}
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Request-Timeout"
    assert await gateway.metric("llmcxr_pending_requests") == 0


async def test_given_twice(gateway):
    headers = [("Request-Timeout", "5"), ("Request-Timeout", "6")]
    response = await gateway.client.post("/generate-image", json=REPORT, headers=headers)
    assert response.status_code == 422


@pytest.mark.parametrize("path", ["/generate-image", "/instruct"])
async def test_its_end_cancels_the_work_and_is_told(gateway, path):
    gateway.vllm.faults.append(Fault.HANG)
    body = REPORT if path == "/generate-image" else {"instruction": "Explain."}
    started = asyncio.get_running_loop().time()
    response = await gateway.client.post(path, json=body, headers={"Request-Timeout": "0.2"})
    assert asyncio.get_running_loop().time() - started < 1.0
    assert response.status_code == 504
    assert response.json()["type"] == "/problems/deadline-exceeded"
    assert gateway.vllm.cancelled == 1
    assert await gateway.metric("llmcxr_pending_requests") == 0
    # It was the caller's time, not the model's fault.
    assert await gateway.metric("llmcxr_vllm_up") == 1


async def test_what_is_left_is_passed_on(gateway):
    headers = {"Request-Timeout": "7.5"}
    response = await gateway.client.post("/generate-image", json=REPORT, headers=headers)
    assert response.status_code == 200
    assert 5.0 < float(gateway.vllm.headers[-1]["request-timeout"]) < 7.5
    await gateway.client.post("/generate-image", json=REPORT)
    assert "request-timeout" not in gateway.vllm.headers[-1]


async def test_whoever_would_be_late_is_refused_at_once(gateway):
    gateway.vllm.delay_seconds = 0.3

    async def ask(seconds):
        return await gateway.client.post(
            "/instruct", json={"instruction": "Explain."}, headers={"Request-Timeout": seconds}
        )

    await asyncio.gather(*(ask("5") for _ in range(2)))
    busy = asyncio.create_task(ask("5"))
    await asyncio.sleep(0.1)
    started = asyncio.get_running_loop().time()
    late = await ask("0.1")
    assert asyncio.get_running_loop().time() - started < 0.2
    assert late.status_code == 503
    assert late.json()["type"] == "/problems/overloaded"
    assert late.json()["reason"] == "too-late"
    assert int(late.headers["retry-after"]) >= 1
    assert (await busy).status_code == 200


def test_expectation_grows_with_the_queue():
    now = 0.0
    admission = Admission(100, lambda _: None, lambda: now, longest_seconds=25.0)
    assert admission.expected_seconds == 0.0
    for _ in range(30):
        with admission.slot():
            now += 10.0
    assert admission.expected_seconds == pytest.approx(10.0)
    with admission.slot():
        assert admission.expected_seconds == pytest.approx(20.0)
        with admission.slot():
            assert admission.expected_seconds == pytest.approx(30.0)
            with pytest.raises(Overloaded) as caught, admission.slot():
                pass
    assert caught.value.reason == "too-late"
    assert caught.value.retry_after_seconds == math.ceil(30.0 - 25.0)


def test_an_idle_service_takes_whoever_comes():
    now = 0.0
    admission = Admission(4, lambda _: None, lambda: now, longest_seconds=1.0)
    with admission.slot():
        now += 600.0
    answers = Counter()
    with admission.slot():
        with pytest.raises(Overloaded), admission.slot():
            pass
        answers["taken"] += 1
    assert answers["taken"] == 1
