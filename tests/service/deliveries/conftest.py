"""A gateway that delivers: rules, destinations, a queue in SQLite or PostgreSQL, an archive."""

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
from pydicom.uid import generate_uid
from tests import pictures
from tests.archive import Archive
from tests.postgresql import Cluster, NoPostgresql, open_cluster
from tests.service.conftest import Gateway, StartGateway, serve

RULES = """
[[rules]]
name = "chest"
modality = ["DX"]
action = "generate"
outputs = [{outputs}]
destinations = [{names}]
"""
QUEUE = """
[queue]
poll_seconds = 0.05
first_retry_seconds = 0.05
longest_retry_seconds = 0.2
"""


@dataclass
class Delivering:
    """A gateway that delivers."""

    gateway: Gateway

    async def store(self, data: bytes) -> httpx.Response:
        """STOW one instance."""
        head = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
        return await self.gateway.client.post(
            "/dicom-web/studies",
            content=head + data + b"\r\n--x--\r\n",
            headers={
                "Content-Type": 'multipart/related; type="application/dicom"; boundary=x',
                "Accept": "application/dicom+json",
            },
        )

    async def deliveries(self, **filters: Any) -> list[dict[str, Any]]:
        answer = await self.gateway.client.get("/deliveries", params=filters)
        assert answer.status_code == 200, answer.text
        return answer.json()["deliveries"]

    async def until(self, count: int = 1, **filters: Any) -> list[dict[str, Any]]:
        """Wait for so many deliveries of this state and target."""
        target = filters.pop("target", None)
        deadline = time.monotonic() + 90.0
        while True:
            found = await self.deliveries(**filters)
            found = [each for each in found if target in (None, each["target"])]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, await self.deliveries()
            await asyncio.sleep(0.05)

    async def post(self, path: str) -> httpx.Response:
        return await self.gateway.client.post(path)


StartDelivering = Callable[..., Any]


def radiograph(seed: int = 0, **attributes: Any) -> bytes:
    """A file with everything that a result needs to be filed beside it."""
    return pictures.dicom(
        seed,
        **{
            "StudyInstanceUID": generate_uid(),
            "SeriesInstanceUID": generate_uid(),
            "AccessionNumber": "ACC-4711",
            **attributes,
        },
    )


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def archive_url(archive: Archive) -> Iterator[str]:
    with serve(archive.app()) as url:
        yield url


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        with open_cluster(tmp_path_factory.mktemp("postgresql")) as running:
            yield running
    except NoPostgresql as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """URL of an empty database; None is SQLite in the spool."""
    if request.param == "sqlite":
        return None
    running: Cluster = request.getfixturevalue("cluster")
    return running.new_database()


@pytest.fixture
def start_delivering(
    start_gateway: StartGateway, tmp_path: Path, database: str | None
) -> StartDelivering:
    """Start a gateway with these destinations (TOML); spool and queue are kept in between."""

    @asynccontextmanager
    async def start(
        destinations: str,
        names: tuple[str, ...] = ("archive",),
        outputs: tuple[str, ...] = ("enhanced-sr",),
        **changes: Any,
    ) -> AsyncIterator[Delivering]:
        rules, file = tmp_path / "rules.toml", tmp_path / "destinations.toml"
        quoted = (", ".join(f'"{word}"' for word in words) for words in (outputs, names))
        rules.write_text(RULES.format(**dict(zip(("outputs", "names"), quoted, strict=True))))
        file.write_text(QUEUE + destinations)
        settings = {
            "dicom_rules": rules,
            "destinations": file,
            "spool": tmp_path / "spool",
            "deliveries_database": database,
            **changes,
        }
        async with start_gateway(**settings) as gateway:
            yield Delivering(gateway)

    return start
