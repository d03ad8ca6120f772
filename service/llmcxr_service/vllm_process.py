"""VllmSupervisor: a vLLM process of our own on loopback. Started, watched, restarted, ended.

Knows processes and vLLM's `/health`; knows nothing of prompts or requests. Two things keep
vLLM from outliving the service: `stop` ends its whole process group, and where the service is
killed before it can, the launcher sees its standard input close and ends the group itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import time
from enum import StrEnum
from pathlib import Path

import httpx
from pydantic import SecretStr

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.generator import authorization
from llmcxr_service.vllm_command import HOST, VllmOptions, vllm_command, vllm_environment

__all__ = ["VllmOptions", "VllmStartError", "VllmState", "VllmSupervisor"]

POLL_SECONDS = 0.5
HEALTH_SECONDS = 2.0
"""Between two questions to a vLLM that is ready; its process is looked at more often."""
HANG_SECONDS = 60.0
"""A vLLM that has not answered `/health` for so long is taken for dead."""
GRACE_SECONDS = 15.0
"""From SIGTERM to SIGKILL."""
LONGEST_BACKOFF_SECONDS = 60.0
QUOTED_LINES = 15
KEEP_LOGS_SECONDS = 7 * 24 * 3600.0

log = logging.getLogger(__name__)


class VllmState(StrEnum):
    """Where the process is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It ended or failed, and is started again after a pause."""


class VllmStartError(Exception):
    """vLLM did not start. For the operator: the message quotes the end of vLLM's log."""


class VllmSupervisor:
    """Keeps one vLLM running for one checkpoint.

    Args:
        checkpoint: what it serves.
        options: how.

    Attributes:
        url: where it listens; the same through all restarts.
        api_key: random, known to this process and to vLLM only.
        state: where the process is in its life.
        restarts: how often it was started again.
        log_file: what it writes.
        failure: why the latest start failed or the process ended, if it did.
    """

    def __init__(self, checkpoint: Checkpoint, options: VllmOptions) -> None:
        self._checkpoint = checkpoint
        self._options = options
        self._port = _free_port()
        self.url = f"http://{HOST}:{self._port}"
        self.api_key = SecretStr(secrets.token_urlsafe(32))
        self.state = VllmState.STOPPED
        self.restarts = 0
        self.failure: VllmStartError | None = None
        self.log_file = (options.log_directory or state_directory()) / f"vllm-{self._port}.log"
        self._failures_in_a_row = 0
        self._usual_start_seconds = 60.0
        self._started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of vLLM's API server; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def is_ready(self) -> bool:
        """Whether it answered when last asked, and still lives."""
        process = self._process
        return self.state is VllmState.READY and process is not None and process.poll() is None

    @property
    def retry_after_seconds(self) -> int:
        """When it is worth trying again, judged by the latest start."""
        elapsed = time.monotonic() - self._started_at if self.state is VllmState.STARTING else 0.0
        return max(2, min(120, round(self._usual_start_seconds - elapsed)))

    async def start(self) -> None:
        """Start vLLM and its watch; returns before vLLM is ready."""
        if self._task is None:
            self._prepare_log()
            self._task = asyncio.create_task(self._keep_running(), name="vllm-supervisor")

    async def wait_ready(self) -> None:
        """Wait until vLLM answers.

        Raises:
            VllmStartError: it ended, or took too long.
        """
        while not self.is_ready:
            if self._task is not None and self._task.done():
                self._task.result()
            if self.failure is not None:
                raise self.failure
            await asyncio.sleep(POLL_SECONDS / 2)

    async def stop(self) -> None:
        """End vLLM and everything that it started."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._end_group()
        self.state = VllmState.STOPPED

    async def _keep_running(self) -> None:
        while True:
            self._spawn()
            problem = await self._watch()
            self.failure = VllmStartError(f"{problem} The end of {self.log_file}:\n{self._tail()}")
            log.error("vLLM: %s", self.failure)
            self.state = VllmState.WAITING
            await self._end_group()
            # The first restart is at once; a vLLM that cannot start is not hammered.
            pause = min(LONGEST_BACKOFF_SECONDS, 2.0**self._failures_in_a_row - 1.0)
            self._failures_in_a_row += 1
            await asyncio.sleep(pause)
            self.restarts += 1

    def _spawn(self) -> None:
        command = vllm_command(self._checkpoint, self._options, self._port)
        self.state, self._started_at = VllmState.STARTING, time.monotonic()
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                command,
                env=vllm_environment(self.api_key.get_secret_value()),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        log.info("vLLM is starting (process %d, log %s)", self._process.pid, self.log_file)

    async def _watch(self) -> str:
        """Follow one process until it must be replaced; says why, in a sentence."""
        heard_at = asked_at = time.monotonic()
        headers = authorization(self)
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=5.0, trust_env=False
        ) as client:
            while True:
                if self._process is None or (code := self._process.poll()) is not None:
                    return f"It ended with status {code}."
                due = (
                    self.state is VllmState.STARTING or asked_at + HEALTH_SECONDS < time.monotonic()
                )
                if due:
                    asked_at = time.monotonic()
                    if await _answers(client):
                        heard_at = time.monotonic()
                        self._note_ready()
                silent = time.monotonic() - heard_at
                if self.state is VllmState.STARTING:
                    if silent > self._options.start_timeout_seconds:
                        return f"It was not ready after {silent:.0f} seconds."
                elif silent > HANG_SECONDS:
                    return f"It has not answered for {silent:.0f} seconds."
                await asyncio.sleep(POLL_SECONDS)

    def _note_ready(self) -> None:
        if self.state is VllmState.STARTING:
            self._usual_start_seconds = time.monotonic() - self._started_at
            log.info("vLLM is ready after %.0f seconds", self._usual_start_seconds)
        self.state, self.failure, self._failures_in_a_row = VllmState.READY, None, 0

    async def _end_group(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Its engine processes are in its group and outlive it when it is killed.
        for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if await _is_gone(process, patience):
                break
        if process.stdin is not None:
            process.stdin.close()

    def _prepare_log(self) -> None:
        directory = self.log_file.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for old in directory.glob("vllm-*.log"):
                if time.time() - old.stat().st_mtime > KEEP_LOGS_SECONDS:
                    old.unlink(missing_ok=True)
            self.log_file.write_bytes(b"")
        except OSError as error:
            raise VllmStartError(f"vLLM's log cannot be written to {directory}.") from error

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            text = self.log_file.read_text(encoding="utf-8", errors="replace")
            return "\n".join(text.splitlines()[-QUOTED_LINES:])
        return ""


def state_directory() -> Path:
    """Where logs go by the XDG base directory specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "llmcxr"


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


async def _is_gone(process: subprocess.Popen[bytes], patience_seconds: float) -> bool:
    """Wait until the group of `process` is empty; False where it is not by then."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        process.poll()  # reaps it: a zombie still counts as a member of the group
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.1)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
