"""A vLLM and a gateway of our own before it, started when first asked for, in one place."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import httpx
from killed_gateway import free_port
from rich.console import Console

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.vllm_command import VllmOptions, resolve_dtype, vllm_command, vllm_environment

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 900.0
_END_SECONDS = 20.0


@dataclass(frozen=True)
class Server:
    """A process that answers.

    Attributes:
        url: where.
        key: its bearer key; empty where it has none.
        pid: of the process, which leads its own group; None where it is not ours.
        seconds: from its start until it answered.
    """

    url: str
    key: str
    pid: int | None
    seconds: float


class Stage:
    """What sections measure on.

    Args:
        checkpoint: that is served.
        folder: for logs.
        quick: whether only to show that everything runs.
        eager: whether vLLM does without compilation.
        console: where to say what goes on.
        vllm_url: of a vLLM that runs already, with its key in `VLLM_API_KEY`; else one is started.
    """

    def __init__(
        self,
        checkpoint: Path,
        folder: Path,
        *,
        quick: bool,
        eager: bool,
        console: Console,
        vllm_url: str | None = None,
    ) -> None:
        self.folder, self.quick, self.eager, self.console = folder, quick, eager, console
        self.options = VllmOptions(eager=eager, max_num_seqs=32)
        self._path = checkpoint
        self._vllm_url = vllm_url
        self._servers = ExitStack()
        self._vllm: Server | None = None
        self._gateway: Server | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What is served."""
        return Checkpoint.open(self._path, verify=False)

    @property
    def dtype(self) -> str:
        """Of the language model's weights, in vLLM and wherever it is compared with."""
        return resolve_dtype(self.options.dtype, has_gpu=False)

    def vllm(self) -> Server:
        """The vLLM that all sections share."""
        if self._vllm_url is not None:
            return Server(self._vllm_url, os.environ.get("VLLM_API_KEY", ""), None, 0.0)
        if self._vllm is None:
            self._vllm = self.start_vllm(self._servers, self.options)
        return self._vllm

    def start_vllm(
        self,
        stack: ExitStack,
        options: VllmOptions,
        further: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Server:
        """A vLLM as the service starts its own; it ends with `stack`.

        Args:
            stack: ends it.
            options: of the service.
            further: options of vLLM itself.
            environment: variables that win over those that the service would set.

        Raises:
            RuntimeError: it does not start.
        """
        port, key = free_port(), secrets.token_urlsafe(16)
        command = [*vllm_command(self.checkpoint, options, port), *further]
        variables = vllm_environment(key) | dict(environment or {})
        return self._start(stack, "vllm", command, variables, (port, key))

    def gateway(self) -> Server:
        """A gateway with its own defaults before that vLLM."""
        if self._gateway is None:
            backend = self.vllm()
            self._gateway = self.start_gateway(self._servers, backend.url, backend.key)
        return self._gateway

    def start_gateway(self, stack: ExitStack, vllm_url: str, key: str = "") -> Server:
        """A gateway before a vLLM; it ends with `stack`.

        Raises:
            RuntimeError: it does not start.
        """
        port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
        environment |= {
            "LLMCXR_CHECKPOINT": str(self._path),
            "LLMCXR_PORT": str(port),
            "LLMCXR_OPEN": "true",
            "LLMCXR_VLLM_URL": vllm_url,
            "LLMCXR_MAX_PENDING": "256",
            "LLMCXR_PIXEL_GATE": "warn",
            "LLMCXR_REQUEST_TIMEOUT_SECONDS": "3600",
            **({"LLMCXR_VLLM_API_KEY": key} if key else {}),
        }
        command = [sys.executable, "-m", "llmcxr_service", "serve", "--end-with-stdin"]
        return self._start(stack, "gateway", command, environment, (port, ""))

    def close(self) -> None:
        """End what was started."""
        self._vllm = self._gateway = None
        self._servers.close()

    def _start(
        self,
        stack: ExitStack,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        address: tuple[int, str],
    ) -> Server:
        port, key = address
        self.console.print(f"Starting {name} ...")
        started = time.monotonic()
        log = self.folder / f"{name}-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stack.callback(_end, process)
        server = Server(f"http://127.0.0.1:{port}", key, process.pid, 0.0)
        path = "/health" if name == "vllm" else "/health/ready"
        while not _answers(server.url + path):
            if process.poll() is not None or time.monotonic() - started > START_SECONDS:
                tail = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{name} did not start:\n{tail}")
            time.sleep(0.2)
        return replace(server, seconds=round(time.monotonic() - started, 1))


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5.0, trust_env=False).is_success
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind
    if process.stdin is not None:
        process.stdin.close()
