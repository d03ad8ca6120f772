"""The gateway's hold on its decode processes: starts the template, forks and kills workers."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

from llmcxr_models.radiograph import Pipeline
from llmcxr_service import decode_wire as wire

_START_SECONDS = 60.0
_FORK_SECONDS = 30.0
# One thread each: a worker decodes one file, and threads do not survive a fork.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker does and may use.

    Attributes:
        pipeline: how stored values become display values.
        memory_mib: its address space.
        seconds: for one file.
        files: how many it decodes before a new one takes its place.
    """

    pipeline: Pipeline
    memory_mib: int
    seconds: float
    files: int


class Worker:
    """A connection to one worker process.

    Args:
        connection: our end of it.
        process: its pidfd.
    """

    def __init__(self, connection: socket.socket, process: int) -> None:
        self._connection = connection
        self._process = process
        self.decoded = 0

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def receive(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        buffer = bytearray(size)
        await self.receive_into(memoryview(buffer))
        return bytes(buffer)

    async def receive_into(self, buffer: memoryview) -> None:
        """Fill `buffer`.

        Raises:
            EOFError: the worker is gone.
        """
        await _receive_into(self._connection, buffer)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; the kernel kills too, for want of memory."""
        ended = select.poll()
        ended.register(self._process, select.POLLIN)
        return not ended.poll(0)

    def kill(self) -> None:
        """End the process, whatever it is doing. May be called once."""
        with suppress(ProcessLookupError):
            # By descriptor: a process id may by now be another process's.
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)
        self._connection.close()


class DecodeTemplate:
    """A process that has loaded the decoders, and from which workers are forked in a millisecond.

    Args:
        options: for its workers.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def start(self) -> None:
        """Start it and wait until it has loaded.

        Raises:
            OSError: it does not start.
            EOFError: it ended at once.
            TimeoutError: it does not get ready.
        """
        self._control = self._launch()
        async with asyncio.timeout(_START_SECONDS):
            await _receive_into(self._control, memoryview(bytearray(len(wire.READY))))

    def _launch(self) -> socket.socket:
        options = self._options
        ours, theirs = _pair()
        with theirs:
            numbers = (theirs.fileno(), options.pipeline, options.memory_mib, options.seconds)
            arguments = [str(argument) for argument in (*numbers, options.files)]
            # Isolated and without our environment: it has neither settings nor secrets.
            self._process = subprocess.Popen(  # noqa: S603 - our own program and numbers
                [sys.executable, "-I", "-m", "llmcxr_service.decode_worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        return ours

    async def fork(self) -> Worker:
        """A new worker.

        Raises:
            OSError: the template is gone.
            EOFError: the worker, or the template, is gone.
            TimeoutError: nothing came.
        """
        if self._control is None:
            raise EOFError
        ours, theirs = _pair()
        try:
            with theirs:
                socket.send_fds(self._control, [wire.FORK], [theirs.fileno()])
            hello = bytearray(wire.HELLO.size)
            async with asyncio.timeout(_FORK_SECONDS):
                await _receive_into(ours, memoryview(hello))
            _, process = wire.HELLO.unpack(hello)
            return Worker(ours, os.pidfd_open(process))
        except BaseException:
            ours.close()
            raise

    async def stop(self) -> None:
        """End the template; its workers end when their connections do, or are killed."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


def _pair() -> tuple[socket.socket, socket.socket]:
    """Our end, which never blocks, and the other one."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


async def _receive_into(connection: socket.socket, buffer: memoryview) -> None:
    loop = asyncio.get_running_loop()
    while buffer:
        received = await loop.sock_recv_into(connection, buffer)
        if received == 0:
            raise EOFError
        buffer = buffer[received:]
