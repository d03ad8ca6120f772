"""A whole gateway that receives: queue, rules, DIMSE receiver; at its wires a fake vLLM and an
archive that results go to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydicom.uid import generate_uid
from tests.archive import Archive
from tests.fakes import FakeVllm
from tests.pictures import dicom
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.audit_log import verify
from llmcxr_service.runtime import Runtime
from llmcxr_service.settings import Settings

T = TypeVar("T")

AE_TITLE = "GATEWAY"
ROUTER = "ROUTER"
LIMIT = 300_000

RULES = """
[[rules]]
name = "hands"
body_part = ["hand*"]
action = "ignore"

[[rules]]
name = "router"
calling_ae = ["ROUTER"]
modality = ["CR", "DX"]
action = "generate"
outputs = ["enhanced-sr"]
destinations = ["pacs"]

[[rules]]
name = "web"
origin = ["stow"]
action = "generate"
outputs = ["enhanced-sr", "secondary-capture"]
destinations = ["pacs"]
"""
DESTINATIONS = """
[queue]
poll_seconds = 0.05

[[destinations]]
name = "pacs"
kind = "stow"
url = "{url}"
"""


@dataclass
class Hospital:
    """What a test may touch."""

    url: str
    port: int
    app: FastAPI
    archive: Archive
    settings: Settings
    loop: asyncio.AbstractEventLoop

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.state.runtime
        return runtime

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something on the gateway's loop."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(60)

    def received(self, origin: str, verdict: str) -> float:
        labels = {"origin": origin, "verdict": verdict}
        return self._sample("llmcxr_received_instances_total", labels)

    def associations(self, event: str) -> float:
        return self._sample("llmcxr_dicom_associations_total", {"event": event})

    def events(self, code: str) -> list[dict[str, Any]]:
        """Of the audit log, by what they are about; the chain is whole."""
        assert self.settings.audit is not None
        assert not any(verdict.complaint for verdict in verify(self.settings.audit))
        lines = (self.settings.audit / "audit-local.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events if event["subtype"][0]["code"] == code]

    def _sample(self, name: str, labels: dict[str, str]) -> float:
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0

    def results_in(self, study: str, count: int) -> list[bytes]:
        """Objects of a study in the archive, once there are enough."""

        def found() -> list[bytes]:
            return [s.data for s in self.archive.instances.values() if s.study == study]

        wait_for(lambda: len(found()) >= count, seconds=30)
        return found()


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def instance(**attributes: Any) -> bytes:
    """A radiograph with all its identifiers."""
    ids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    return dicom(**{**ids, **attributes})


@pytest.fixture(scope="module")
def hospital(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    archive = Archive()
    manifest = checkpoint.manifest
    vllm = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    with serve(archive.app()) as archive_url:
        (folder / "rules.toml").write_text(RULES)
        (folder / "destinations.toml").write_text(DESTINATIONS.format(url=archive_url))
        settings = Settings(
            checkpoint=checkpoint.path,
            open=True,
            device="cpu",
            vqgan_threads=1,
            decode_workers=2,
            max_body_bytes=LIMIT,
            destinations=folder / "destinations.toml",
            spool=folder / "spool",
            audit=folder / "audit",
            dicom_rules=folder / "rules.toml",
            dicom_port=free_port(),
            dicom_ae_title=AE_TITLE,
            dicom_calling_ae_titles=f"{ROUTER}, OTHER",
            dicom_max_associations=2,
            dicom_timeout_seconds=2.0,
            dicom_max_store_bytes=2_000_000,
        )
        app = create_app(settings, transport=httpx.ASGITransport(vllm.app()))
        with Served(app) as (url, loop):
            port = settings.dicom_port
            assert port is not None
            yield Hospital(url, port, app, archive, settings, loop)


class Served:
    """uvicorn on a loop of its own, which tests can use too."""

    def __init__(self, app: FastAPI) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve([self._listener]))

    def __enter__(self) -> tuple[str, asyncio.AbstractEventLoop]:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the gateway did not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}", self._loop

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._loop.close()
        self._listener.close()


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    """Certificate files of a hospital's authority, and of a stranger."""
    import trustme

    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "server", "client", "stranger")}
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(paths["ca"]))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(paths["server"])
    )
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(
        str(paths["client"])
    )
    other.issue_cert("stranger.example").private_key_and_cert_chain_pem.write_to_path(
        str(paths["stranger"])
    )
    return paths
