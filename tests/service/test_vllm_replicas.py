"""Several vLLM servers, and one that fails, over real connections."""

import asyncio
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager

import httpx
import pytest
from tests.fakes import FakeVllm, Fault
from tests.fault_proxy import FaultProxy
from tests.service.conftest import serve, until

from llmcxr_service.app import create_app
from llmcxr_service.circuit import Circuit


@pytest.fixture
def servers(checkpoint):
    """Two scripted vLLMs, each behind a proxy."""
    manifest = checkpoint.manifest
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            vllm = FakeVllm(
                manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
            )
            upstream = stack.enter_context(serve(vllm.app()))
            found.append((vllm, stack.enter_context(FaultProxy(upstream).running())))
        yield found


@asynccontextmanager
async def gateway_of(make_settings, *urls, **changes):
    app = create_app(make_settings(vllm_url=",".join(urls), **changes))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=30.0) as client,
    ):
        yield client, app.state.runtime.metrics.registry


async def ask(client, seed=1):
    return await client.post("/instruct", json={"instruction": "Explain.", "seed": seed})


def up(registry, index):
    return registry.get_sample_value("llmcxr_vllm_replica_up", {"replica": str(index)})


async def test_the_least_loaded_one_is_asked(servers, make_settings):
    urls = [proxy.url for _, proxy in servers]
    async with gateway_of(make_settings, *urls) as (client, registry):
        # One is enough for the first calls.
        await until(lambda: all(up(registry, index) == 1 for index in range(2)), 30)
        for vllm, _ in servers:
            vllm.delay_seconds = 0.2
        answers = await asyncio.gather(*(ask(client, i) for i in range(12)))
    assert {a.status_code for a in answers} == {200}
    assert [len(vllm.requests) for vllm, _ in servers] == [6, 6]


async def test_a_name_that_does_not_resolve_gets_no_calls(servers, make_settings):
    """In a cluster the list has as many names as the autoscaler may start servers."""
    (vllm, proxy), _ = servers
    names = [proxy.url, "http://vllm-1.vllm.invalid:8000", "http://vllm-2.vllm.invalid:8000"]
    async with gateway_of(make_settings, *names) as (client, registry):
        ready = await client.get("/health/ready")
        answers = await asyncio.gather(*(ask(client, i) for i in range(6)))
    assert ready.status_code == 200
    assert {a.status_code for a in answers} == {200}
    assert len(vllm.requests) == 6
    assert registry.get_sample_value("llmcxr_vllm_retries_total") == 0


async def test_one_goes_and_the_other_answers_all(servers, make_settings):
    (first, proxy), (second, other) = servers
    async with gateway_of(make_settings, proxy.url, other.url) as (client, registry):
        assert (await ask(client)).status_code == 200
        proxy.break_by("refused")
        answers = await asyncio.gather(*(ask(client, i) for i in range(20)))
        assert {a.status_code for a in answers} == {200}
        assert (await client.get("/health/ready")).status_code == 200
        assert up(registry, 0) == 0
        assert registry.get_sample_value("llmcxr_vllm_up") == 1
        proxy.mend()
        before, ended = len(first.requests), time.monotonic()
        while len(first.requests) == before:
            assert time.monotonic() - ended < 5.0, "not used again"
            await asyncio.gather(*(ask(client, i) for i in range(2)))
            await asyncio.sleep(0.1)
    assert len(second.requests) >= 20


async def test_one_that_is_busy_is_passed_over_and_one_that_worked_is_not(servers, make_settings):
    (_, proxy), (_, other) = servers
    async with gateway_of(make_settings, proxy.url, other.url) as (client, registry):
        proxy.break_by("status-429")
        assert {(await ask(client, i)).status_code for i in range(6)} == {200}
        proxy.break_by("closed-in-body")
        await asyncio.sleep(2.5)  # by then it was looked at again
        answers = [await ask(client, i) for i in range(4)]
        lost = [a for a in answers if a.status_code == 503]
        assert lost
        assert {a.json()["reason"] for a in lost} == {"connection-lost"}
        assert registry.get_sample_value("llmcxr_vllm_retries_total") > 0


async def test_another_checkpoint_is_never_asked(servers, make_settings):
    (first, proxy), (_, other) = servers
    first.served_name = "another"
    async with gateway_of(make_settings, proxy.url, other.url) as (client, _):
        assert {(await ask(client, i)).status_code for i in range(4)} == {200}
    assert not first.requests


async def test_failing_again_and_again_opens_the_circuit(start_gateway, vllm):
    async with start_gateway() as gateway:
        vllm.faults.extend([Fault.SERVER_ERROR] * 5)
        for _ in range(5):
            assert (await ask(gateway.client)).status_code == 502
        refused = await ask(gateway.client)
        assert refused.status_code == 503
        assert refused.json()["reason"] == "circuit-open"
        assert int(refused.headers["retry-after"]) >= 1
        assert await gateway.metric("llmcxr_vllm_circuit_open", replica="0") == 1
        await asyncio.sleep(1.1)
        assert (await ask(gateway.client)).status_code == 200
        assert await gateway.metric("llmcxr_vllm_circuit_open", replica="0") == 0


def test_circuit_half_open_lets_one_call_through():
    now, told = 0.0, []
    circuit = Circuit(told.append, failures=2, clock=lambda: now)
    for _ in range(2):
        circuit.begin()
        circuit.failed()
    assert circuit.is_open
    assert not circuit.takes_calls
    pauses = []
    for _ in range(5):
        pauses.append(circuit.pause_seconds)
        now += circuit.pause_seconds
        assert circuit.takes_calls
        circuit.begin()
        assert not circuit.takes_calls
        circuit.failed()
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    now += 4.0
    circuit.begin()
    circuit.given_up()
    assert circuit.takes_calls
    circuit.begin()
    circuit.succeeded()
    assert not circuit.is_open
    assert told == [False, True, False]
    assert Counter(told)[True] == 1
