"""The real thing: `llmcxr serve` as a child process, with a real vLLM and the real checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 900.0


@dataclass(frozen=True)
class RunningService:
    """A child process that serves.

    Attributes:
        process: the gateway.
        client: of it.
    """

    process: subprocess.Popen[bytes]
    client: httpx.Client

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the service ended"
            if self.is_ready():
                return
            time.sleep(1.0)
        raise AssertionError(f"not ready after {seconds:.0f} s")

    def is_ready(self) -> bool:
        try:
            return self.client.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False


def start_service(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start `llmcxr serve` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "LLMCXR_CHECKPOINT": str(ROOT / "checkpoints" / "demo"),
        **os.environ,
        "LLMCXR_HOST": "127.0.0.1",
        "LLMCXR_OPEN": "true",
        "LLMCXR_PORT": str(port),
        "LLMCXR_VLLM_EAGER": "true",
        # A slow or busy machine must not refuse what a test asks as "too late".
        "LLMCXR_REQUEST_TIMEOUT_SECONDS": "3000",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmcxr_service", "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return process, f"http://127.0.0.1:{port}"


def descendants(pid: int) -> set[int]:
    """Process ids of all children, theirs included."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, frontier = set(), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def alive(pids: set[int]) -> set[int]:
    """Which of them still run; a zombie does not."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


def wait_gone(pids: set[int], seconds: float) -> set[int]:
    """Wait until they have ended; returns those that have not."""
    deadline = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    return alive(pids)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One service, one start of vLLM, for all tests here."""
    log = tmp_path_factory.mktemp("e2e") / "service.log"
    process, url = start_service(log)
    try:
        with httpx.Client(base_url=url, timeout=600.0, trust_env=False) as client:
            running = RunningService(process, client)
            try:
                running.wait_ready()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{log.read_text()[-4000:]}") from None
            yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
