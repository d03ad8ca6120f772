"""Fifty made-up identifiers through a real server: where do they come out again?

Each stands in one place where a patient's identity can be: DICOM attributes, UIDs, a preamble,
picture comments, file names, form fields, headers, queries, paths, JSON. The server is a process
of its own, logs at DEBUG, and may not write one byte to any file (RLIMIT_FSIZE 0: it would fail).
Its log, /metrics, and the bodies and headers of all answers are searched.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from rich.console import Console
from tests.checkpoints import build_checkpoint
from tests.fakes import FakeVllm
from tests.hostile import identifiers
from tests.hostile.identifiers import CANARIES

from llmcxr_models.checkpoint import Checkpoint

_START_SECONDS = 120.0


@dataclass
class Searched:
    """What was sent and searched, and what was found.

    Attributes:
        sent: canaries that stood in some request.
        statuses: of the answers.
        found: where canaries came out again, and which.
    """

    sent: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    def search(self, where: str, text: bytes) -> None:
        """Look for every canary, in whatever case."""
        low = text.lower()
        for name, value in CANARIES.items():
            if identifiers.core(value).lower().encode() in low:
                self.found[f"{where}: {name}"] += 1


def run(requests: int, seed: int) -> dict[str, Any]:
    """Send so many requests to a fresh server, and search everything it said."""
    searched = Searched()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve(folder) as (url, log):
            dice = random.Random(seed)
            with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
                for number in range(requests):
                    _send(client, identifiers.request(number, dice), searched)
                _send_malformed(url, searched)
                searched.search("metrics", client.get("/metrics").content)
        said = log.read_bytes()
        searched.search("log", said)
        files = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    return {
        "requests": requests,
        "canaries": len(CANARIES),
        "canaries_sent": len(searched.sent),
        "answers": {str(k): v for k, v in sorted(searched.statuses.items())},
        "log_lines": said.count(b"\n"),
        "temporary_files": len(files),
        "bytes_written_to_files": 0,  # the limit would have ended any that tried
        "found": dict(searched.found),
        "found_in_all": sum(searched.found.values()),
    }


def _send(client: httpx.Client, made: identifiers.Request, searched: Searched) -> None:
    response = client.request(
        made.method, made.path, content=made.content, headers=made.headers, params=made.params
    )
    searched.statuses[response.status_code] += 1
    sent = b"\n".join([made.content, repr((made.path, made.headers, made.params)).encode()])
    searched.sent |= {name for name, value in CANARIES.items() if value.encode() in sent}
    searched.search(f"body {response.status_code}", response.content)
    searched.search("headers", repr(response.headers.raw).encode())


def _send_malformed(url: str, searched: Searched) -> None:
    """HTTP that is none: the server itself answers, and may be tempted to quote."""
    host, port = url.removeprefix("http://").split(":")
    for request in identifiers.malformed():
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        searched.search("malformed", answer)


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, Path]]:
    """`llmcxr serve` in a process of its own, with a fake vLLM here; its URL and its log."""
    checkpoint = build_checkpoint(folder / "tiny")
    (folder / "tmp").mkdir()
    log = folder / "log"
    with fake_vllm(checkpoint) as vllm, _Pump(log) as pump:
        port = _free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder),
            "LLMCXR_CHECKPOINT": str(checkpoint),
            "LLMCXR_VLLM_URL": vllm,
            "LLMCXR_PORT": str(port),
            "LLMCXR_OPEN": "true",
            "LLMCXR_DEVICE": "cpu",
            "LLMCXR_VQGAN_THREADS": "1",
            "LLMCXR_LOG_LEVEL": "DEBUG",
        }
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-m", "llmcxr_service", "serve"],
            env=environment,
            cwd=folder,
            stdout=pump.end,
            stderr=pump.end,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            # From here on it cannot write to a file; importing torch tries where it could.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
            yield url, log
        finally:
            process.terminate()
            process.wait(30)


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


@contextmanager
def fake_vllm(checkpoint: Path) -> Iterator[str]:
    """The tests' fake vLLM on a loopback port."""
    manifest = Checkpoint.open(checkpoint).manifest
    vllm = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(vllm.app(), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _free_port() -> int:
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


def main() -> int:
    """Read the arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    found = run(arguments.requests, arguments.seed)
    text = json.dumps(found, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    Console().print_json(text)
    return int(found["found_in_all"] > 0)


if __name__ == "__main__":
    sys.exit(main())
