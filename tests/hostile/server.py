"""`llmcxr serve` as a process of its own; around it, in threads here, what it talks to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.archive import Archive
from tests.checkpoints import build_checkpoint
from tests.fakes import FakeVllm
from tests.hostile.case import MOST_BYTES
from tests.hostile.dimse_cases import CALLED, CALLING
from tests.hostile.hostile_archive import HostileArchive, hostile_archive
from tests.service.conftest import serve as serve_here

from llmcxr_models.checkpoint import Checkpoint

_START_SECONDS = 180.0
_RULES = """
[default]
action = "generate"
outputs = ["enhanced-sr", "secondary-capture"]
destinations = [{names}]
"""
_QUEUE = """
[queue]
poll_seconds = 0.1
"""
_DESTINATION = """
[[destinations]]
name = "{name}"
kind = "stow"
url = "{url}"
give_up_hours = 0
"""
_SOURCES = """
[[sources]]
name = "hostile"
url = "{url}"

[[sources]]
name = "slow"
url = "{url}"
timeout_seconds = 1.0
"""


@dataclass(frozen=True)
class Server:
    """A running gateway.

    Attributes:
        url: of its HTTP side.
        folder: where it works.
        log: the file that its log goes to.
        process: it.
    """

    url: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def is_alive(self) -> bool:
        """Whether it is still the process that was started."""
        return self.process.poll() is None

    @property
    def resident_mib(self) -> float:
        """Its resident memory, MiB; 0 where it has died."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except FileNotFoundError:
            return 0.0
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def metrics(self) -> str:
        """What it says of itself."""
        return httpx.get(f"{self.url}/metrics", trust_env=False, timeout=60.0).text


@dataclass(frozen=True)
class Hospital:
    """A gateway with every door open, and what stands around it.

    Attributes:
        server: the gateway.
        dicom_port: of its DIMSE receiver.
        sources: the archive that it pulls from.
        archive: the one that it delivers to.
    """

    server: Server
    dicom_port: int
    sources: HostileArchive
    archive: Archive


@contextmanager
def hospital(folder: Path, **settings: str) -> Iterator[Hospital]:
    """A gateway that receives, pulls and delivers."""
    with ExitStack() as stack:
        sources = stack.enter_context(hostile_archive())
        archive = Archive()
        archive_url = stack.enter_context(serve_here(archive.app()))
        port = free_port()
        configuration = {
            **receiving(folder, {"pacs": archive_url}, port),
            **pulling(folder, sources.url),
            "MAX_BODY_BYTES": str(MOST_BYTES),
            **settings,
        }
        server = stack.enter_context(serve(folder, **configuration))
        yield Hospital(server, port, sources, archive)


def receiving(folder: Path, archives: Mapping[str, str], port: int) -> dict[str, str]:
    """Settings to take everything in, and to send all that comes of it to some archives.

    Args:
        folder: for the files.
        archives: their URLs by their names.
        port: of the DIMSE receiver.
    """
    names = ", ".join(f'"{name}"' for name in archives)
    (folder / "rules.toml").write_text(_RULES.replace("{names}", names))
    tables = [_DESTINATION.format(name=name, url=url) for name, url in archives.items()]
    (folder / "destinations.toml").write_text("".join([_QUEUE, *tables]))
    return {
        "DESTINATIONS": str(folder / "destinations.toml"),
        "SPOOL": str(folder / "spool"),
        "DICOM_RULES": str(folder / "rules.toml"),
        "DICOM_PORT": str(port),
        "DICOM_AE_TITLE": CALLED,
        "DICOM_CALLING_AE_TITLES": CALLING,
        "DICOM_TIMEOUT_SECONDS": "5",
    }


def pulling(folder: Path, url: str) -> dict[str, str]:
    """Settings to pull from one archive, which has a second name with little patience."""
    (folder / "sources.toml").write_text(_SOURCES.format(url=url))
    return {"DICOM_SOURCES": str(folder / "sources.toml")}


@contextmanager
def serve(folder: Path, *, python: Sequence[str] = (), **settings: str) -> Iterator[Server]:
    """`llmcxr serve`, with a fake vLLM here.

    Args:
        folder: an empty one; its working directory, its home, and where its log goes.
        python: options of its interpreter.
        settings: names without the prefix.
    """
    checkpoint = build_checkpoint(folder / "tiny")
    (folder / "tmp").mkdir()
    log = folder / "log"
    with serve_here(_fake_vllm(checkpoint).app()) as vllm, _Pump(log) as pump:
        port = free_port()
        defaults = {
            "CHECKPOINT": str(checkpoint),
            "VLLM_URL": vllm,
            "PORT": str(port),
            "OPEN": "true",
            "DEVICE": "cpu",
            "VQGAN_THREADS": "1",
            "RATE_LIMIT": "off",
        }
        process = subprocess.Popen(
            [sys.executable, *python, "-m", "llmcxr_service", "serve"],
            env=_environment(folder, {**defaults, **settings}),
            cwd=folder,
            stdout=pump.end,
            stderr=pump.end,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            yield Server(url, folder, log, process)
        finally:
            process.terminate()
            process.wait(60)


def _environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TMPDIR": str(folder / "tmp"),
        "HOME": str(folder),
        **{f"LLMCXR_{name}": value for name, value in settings.items()},
    }


def _fake_vllm(checkpoint: Path) -> FakeVllm:
    manifest = Checkpoint.open(checkpoint).manifest
    return FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )


class _Pump:
    """Writes to a file for a process that may not: a pipe is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Pump:
        start, self.end = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(start,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.end)
        self._thread.join()

    def _run(self, start: int) -> None:
        with os.fdopen(start, "rb") as source, self._path.open("wb") as target:
            for line in source:
                target.write(line)
                target.flush()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server did not get ready")
