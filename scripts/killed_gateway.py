"""Gateways that are started to be killed; the experiments with them are in kill_*.py.

As a program it is the nursery: told on its standard input what to start, and what to look after.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx


def settings_of_a_gateway(
    checkpoint: Path, port: int, vllm_url: str, spool: Path, database: str | None
) -> dict[str, str]:
    """The environment of a gateway on loopback: ours without our settings, and what all need.

    Args:
        checkpoint: to serve.
        port: to listen on.
        vllm_url: the scripted one.
        spool: its directory.
        database: URL of a PostgreSQL database; SQLite where None.
    """
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")},
        "LLMCXR_CHECKPOINT": str(checkpoint),
        "LLMCXR_PORT": str(port),
        "LLMCXR_VLLM_URL": vllm_url,
        "LLMCXR_OPEN": "true",
        "LLMCXR_DEVICE": "cpu",
        "LLMCXR_VQGAN_THREADS": "1",
        "LLMCXR_DECODE_WORKERS": "1",
        "LLMCXR_SPOOL": str(spool),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if database:
        environment["LLMCXR_DELIVERIES_DATABASE"] = database
    return environment


@contextmanager
def nursery(environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that gateways are forked from; it works in the directory of its log."""
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            cwd=log.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


class Gateway:
    """One `llmcxr serve`: a process of its own, forked where its libraries are loaded already.

    Loading them would take most of the time of the experiment, and is not its subject.

    Args:
        nursery: the process that `nurse` runs in.
        client: of it.
        log: what it says.
    """

    def __init__(self, nursery: subprocess.Popen[str], client: httpx.Client, log: Path) -> None:
        self._nursery, self._client, self._log = nursery, client, log
        self._pid = self._ask("start 0")

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return bool(self._ask(f"ended {self._pid}"))

    def end(self, number: signal.Signals) -> None:
        """Signal it, and wait until it is gone."""
        self.tell(number)
        self.wait_ended()

    def tell(self, number: signal.Signals) -> None:
        """Signal it."""
        os.kill(self._pid, number)

    def wait_ended(self) -> None:
        """Until it is gone."""
        wait_until(lambda: self.has_ended, 60.0)

    def wait_listening(self) -> None:
        """Until it is ready.

        Raises:
            RuntimeError: it ended by itself.
        """
        wait_until(lambda: self.has_ended or listens(self._client), 120.0)
        if self.has_ended:
            log = self._log.read_text(errors="replace")
            raise RuntimeError("The gateway ended by itself:\n" + log[-3000:])

    def _ask(self, question: str) -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(question + "\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())


def listens(client: httpx.Client) -> bool:
    """Whether a gateway is ready."""
    try:
        return client.get("/health/ready", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for it.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.05)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nurse() -> None:
    """Load the libraries, then start gateways as we are told to."""
    # What `llmcxr serve` imports sooner or later; nothing of it starts a thread.
    from llmcxr_service.__main__ import serve as serve_command
    from llmcxr_service.deliveries import service  # noqa: F401
    from llmcxr_service.outputs import formats  # noqa: F401
    from llmcxr_service.serving import run_service  # noqa: F401

    ended: set[int] = set()
    for line in sys.stdin:
        question, number = line.split()
        if question == "start":
            pid = os.fork()
            if pid == 0:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(2, 1)
                try:
                    serve_command()
                finally:
                    os._exit(1)
            print(pid, flush=True)
            continue
        if int(number) not in ended and os.waitpid(int(number), os.WNOHANG)[0]:
            ended.add(int(number))
        print(int(int(number) in ended), flush=True)


if __name__ == "__main__":
    nurse()
