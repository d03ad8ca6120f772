"""A gateway that takes jobs: a queue in SQLite or PostgreSQL, payloads in a directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.postgresql import Cluster, NoPostgresql, open_cluster
from tests.service.conftest import Gateway, StartGateway


@dataclass
class Working:
    """A gateway that takes jobs."""

    gateway: Gateway
    spool: Path

    async def draw(self, *reports: str, key: str = "", **fields: Any) -> httpx.Response:
        """Submit a batch of images."""
        body = {"task": "generate-image", "items": [{"report": r} for r in reports], **fields}
        headers = {"Idempotency-Key": key} if key else {}
        return await self.gateway.client.post("/jobs", json=body, headers=headers)

    async def job(self, name: str) -> dict[str, Any]:
        answer = await self.gateway.client.get(f"/jobs/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until_ended(self, name: str) -> dict[str, Any]:
        return await self.until(name, lambda job: job["state"] != "running")

    async def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 90.0
        while True:
            job = await self.job(name)
            if condition(job):
                return job
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 - what changes has no event
            await asyncio.sleep(0.02)


StartWorking = Callable[..., Any]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        with open_cluster(tmp_path_factory.mktemp("postgresql")) as running:
            yield running
    except NoPostgresql as error:
        pytest.skip(str(error))


@pytest.fixture
def start_working(start_gateway: StartGateway, tmp_path: Path) -> StartWorking:
    """Start a gateway that takes jobs; spool and queue are kept in between."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Working]:
        settings = {"jobs": True, "spool": tmp_path / "spool", **changes}
        async with start_gateway(**settings) as gateway:
            yield Working(gateway, tmp_path / "spool")

    return start
