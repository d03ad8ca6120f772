"""The tests' scripted vLLM as a server of its own, for experiments that measure the gateway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmcxr_models.checkpoint import read_manifest

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def scripted_vllm(checkpoint: Path, delay_seconds: float = 0.0) -> Iterator[str]:
    """The tests' scripted vLLM on a free loopback port, in a process of its own."""
    manifest = read_manifest(checkpoint)
    program = (
        "import socket, uvicorn; from tests.fakes import FakeVllm\n"
        f"fake = FakeVllm({manifest.served_name!r}, {manifest.vocabulary.size},"
        f" max_model_len={manifest.max_model_len}, delay_seconds={delay_seconds})\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "uvicorn.Server(uvicorn.Config(fake.app(), log_level='error')).run(sockets=[s])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
