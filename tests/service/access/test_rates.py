"""How often a caller may ask, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.redis_server import NoRedis, Server, open_redis
from tests.service.access.conftest import bearer
from tests.service.conftest import StartGateway

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.access.rates import Rates
from llmcxr_service.errors import AccessError, RateLimited


@pytest.fixture
def redis() -> Iterator[Server]:
    try:
        with open_redis() as server:
            yield server
    except NoRedis as reason:
        pytest.skip(str(reason))


async def allowed(rates: Rates, caller: str, times: int) -> int:
    """How many of so many requests are."""
    refused: list[RateLimited] = []
    for _ in range(times):
        try:
            await rates.count(caller)
        except RateLimited as error:
            refused.append(error)
    assert all(1 <= error.retry_after_seconds <= 3600 for error in refused)
    return times - len(refused)


async def test_each_caller_has_its_own_count() -> None:
    rates = Rates("5/hour")
    assert await allowed(rates, "a", 8) == 5
    assert await allowed(rates, "b", 8) == 5
    assert await allowed(rates, "a", 1) == 0


async def test_time_makes_good() -> None:
    rates = Rates("2/second")
    assert await allowed(rates, "a", 4) == 2
    await asyncio.sleep(2.1)
    assert await allowed(rates, "a", 4) == 2


async def test_a_gateway_says_when_to_come_again(
    start_gateway: StartGateway, keys: Path, make_key: Callable[..., str]
) -> None:
    first, second = make_key(Scope.METRICS), make_key(Scope.METRICS)
    async with start_gateway(open=False, keys=keys, rate_limit="3/hour") as gateway:
        answers = [await gateway.client.get("/model", headers=bearer(first)) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert answers[-1].json()["type"] == "/problems/rate-limited"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 3600
        # Nobody else pays for it, probes least of all.
        assert (await gateway.client.get("/model", headers=bearer(second))).status_code == 200
        assert (await gateway.client.get("/health/live")).status_code == 200
        assert await gateway.metric("llmcxr_access_refusals_total", cause="rate") == 1


async def test_replicas_count_together(redis: Server) -> None:
    one, two = Rates("6/hour", redis.url), Rates("6/hour", redis.url)
    assert await allowed(one, "a", 4) == 4
    assert await allowed(two, "a", 4) == 2
    assert await allowed(one, "a", 1) == 0
    await one.close()
    await two.close()


async def test_requests_to_two_gateways_count_together(
    start_gateway: StartGateway, keys: Path, make_key: Callable[..., str], redis: Server
) -> None:
    settings = {
        "open": False,
        "keys": keys,
        "rate_limit": "3/hour",
        "rate_limit_store": redis.url,
    }
    headers = bearer(make_key(Scope.REPORT, Scope.IMAGE))
    async with start_gateway(**settings) as one, start_gateway(**settings) as two:
        drawn = {"report": "No effusion."}
        answers = [
            await one.client.post("/instruct", json={"instruction": "Hi"}, headers=headers),
            await two.client.post("/generate-image", json=drawn, headers=headers),
            await one.client.post("/generate-image", json=drawn, headers=headers),
            await two.client.post("/instruct", json={"instruction": "Hi"}, headers=headers),
            await one.client.post("/instruct", json={"instruction": "Hi"}, headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[3:])


async def test_without_its_store_each_replica_counts_alone(redis: Server) -> None:
    now = 0.0
    registry = CollectorRegistry()
    measures = DoorMeasures(registry)
    rates = Rates("3/hour", redis.url, clock=lambda: now, measures=measures)
    assert await allowed(rates, "a", 2) == 2
    assert registry.get_sample_value("llmcxr_rate_store_failures_total") == 0
    redis.process.kill()
    redis.process.wait()
    assert await allowed(rates, "a", 5) == 3
    # After a pause the store is asked again, and is still away.
    now = 6.0
    assert await allowed(rates, "a", 1) == 0
    assert registry.get_sample_value("llmcxr_rate_store_failures_total") == 2
    await rates.close()


@pytest.mark.parametrize("url", ["s3cret", "ftp://s3cret", "memcached://s3cret"])
def test_a_store_that_is_none(url: str) -> None:
    with pytest.raises(AccessError) as error:
        Rates("1/second", url)
    assert "s3cret" not in str(error.value)
