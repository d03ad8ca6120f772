"""Files -> Radiograph and identity, in processes that may die: the gateway parses no file itself.

Workers are forked beforehand from a template, so that a fresh one is always waiting. It knows
nothing of HTTP; whoever gives up waiting has his worker killed and replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.errors import CxrError, InvalidRadiograph
from llmcxr_models.radiograph import Radiograph
from llmcxr_service import decode_wire as wire
from llmcxr_service.decode_template import DecodeTemplate, Worker, WorkerOptions
from llmcxr_service.decode_wire import Decoded
from llmcxr_service.errors import DecoderUnavailable, Overloaded
from llmcxr_service.source_instance import SourceInstance

T = TypeVar("T")
_Unpack = Callable[[bytes, NDArray[np.float32]], T]

LOGGER = logging.getLogger(__name__)

FILES_PER_WORKER = 1
"""A file that quietly took over its worker shall not meet the next patient's. See decision 9."""
_MOST_WORKERS = 8
_SPARE_WORKERS = 2
"""Forked beyond those that work, so that the next file need not wait for its process."""
_MOST_WAITING = 256
_WAIT_SECONDS = 60.0
_ATTEMPTS = 2
"""A worker may have died of something else, such as the kernel's want of memory."""
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_GONE = (OSError, EOFError)  # TimeoutError is an OSError


class Restart(StrEnum):
    """Why a worker was replaced before its time."""

    DIED = "died"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    PROTOCOL = "protocol"
    TEMPLATE = "template"


class DecodePool:
    """A bounded number of decode workers, and a bounded queue before them.

    Args:
        options: for the workers.
        workers: how many decode at once; 0: as many as there are processors, within reason.
        on_restart: told why, whenever a worker was replaced before its time.
        on_wait: told how long a file waited for a worker, seconds.
        most_waiting: files that may wait for a worker.
    """

    def __init__(
        self,
        options: WorkerOptions,
        *,
        workers: int,
        on_restart: Callable[[Restart], None],
        on_wait: Callable[[float], None] = lambda _: None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._options = options
        self._size = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
        self._on_restart = on_restart
        self._on_wait = on_wait
        self._most_waiting = most_waiting
        self._waiting = 0
        self._template = DecodeTemplate(options)
        self._started = self._stopped = False
        self._forking = asyncio.Lock()
        self._free = asyncio.Semaphore(self._size)
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to start the processes; a file that comes before they run waits for them."""
        for _ in range(self._size + _SPARE_WORKERS):
            self._in_background(self._add_worker())

    async def stop(self) -> None:
        """End all processes; a file that is still in work is given up."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._idle.empty():
            self._idle.get_nowait().kill()
        await self._template.stop()

    async def radiograph(self, data: bytes) -> Radiograph:
        """The picture in a file; raises as `decode` does."""
        return (await self.decode(data, with_source=False)).radiograph

    async def decode(self, data: bytes, *, with_source: bool = True) -> Decoded:
        """A file's picture and, where asked and stated, who and what it is about.

        Raises:
            InvalidInput: the file cannot be used; reason `timeout` or `decoder-died` where
                decoding it did not come to an end.
            Overloaded: too many files are waiting.
            DecoderUnavailable: no worker became free, or none can be started.
        """
        return await self._run(data, wire.WITH_SOURCE if with_source else 0, wire.unpack)

    async def identify(self, data: bytes) -> SourceInstance:
        """Who and what an instance is about, by its header alone; raises as `decode` does."""
        return await self._run(data, wire.SOURCE_ONLY, lambda text, _: wire.unpack_source(text))

    async def _run(self, data: bytes, flags: int, unpack: _Unpack[T]) -> T:
        for _ in range(_ATTEMPTS):
            worker = await self._take()
            try:
                return await self._use(worker, data, flags, unpack)
            except EOFError:
                continue
        raise InvalidRadiograph("The file cannot be decoded.", reason="decoder-died")

    async def _take(self) -> Worker:
        if self._waiting >= self._most_waiting:
            raise Overloaded("Too many files are waiting to be decoded.", retry_after_seconds=1)
        self._waiting += 1
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._free.acquire()
                try:
                    return await self._living()
                except BaseException:
                    self._free.release()
                    raise
        except TimeoutError:
            raise DecoderUnavailable("No file can be decoded at the moment.") from None
        finally:
            self._waiting -= 1
            self._on_wait(time.perf_counter() - started)

    async def _living(self) -> Worker:
        """One that runs: what ended idle has met no file, and is no file's fault."""
        while True:
            worker = await self._idle.get()
            if worker.is_alive:
                return worker
            worker.kill()
            self._on_restart(Restart.DIED)
            self._in_background(self._add_worker())

    async def _use(self, worker: Worker, data: bytes, flags: int, unpack: _Unpack[T]) -> T:
        """One file by one worker, which is then kept or replaced.

        Raises:
            EOFError: the worker died.
        """
        restart: Restart | None = Restart.CANCELLED
        try:
            async with asyncio.timeout(self._options.seconds):
                answer = unpack(*await _ask(worker, data, flags))
            restart = None
            return answer
        except CxrError:
            restart = None
            raise
        except wire.WireError:
            restart = Restart.PROTOCOL
            raise InvalidRadiograph("The file is damaged and cannot be read.") from None
        except TimeoutError:
            restart = Restart.TIMEOUT
            raise InvalidRadiograph(
                "The file takes too long to decode.", reason="timeout"
            ) from None
        except _GONE:
            restart = Restart.DIED
            raise EOFError from None
        finally:
            self._give_back(worker, restart)

    def _give_back(self, worker: Worker, restart: Restart | None) -> None:
        self._free.release()
        worker.decoded += 1
        if restart is None and worker.decoded < self._options.files and not self._stopped:
            self._idle.put_nowait(worker)
            return
        worker.kill()
        if restart is not None:
            self._on_restart(restart)
        if not self._stopped:
            self._in_background(self._add_worker())

    async def _add_worker(self) -> None:
        """Fork one, however often that takes."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._idle.put_nowait(await self._fork())
                return
            except _GONE as error:
                LOGGER.error("no decode worker", extra={"fields": {"why": type(error).__name__}})
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _fork(self) -> Worker:
        async with self._forking:
            if self._started:
                try:
                    return await self._template.fork()
                except _GONE:
                    self._on_restart(Restart.TEMPLATE)
                    self._started = False
            await self._template.stop()
            await self._template.start()
            self._started = True
            return await self._template.fork()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ask(worker: Worker, data: bytes, flags: int) -> tuple[bytes, NDArray[np.float32]]:
    await worker.send(wire.request(data, flags))
    if data:  # of nothing, the worker needs not wait for the end: it may have answered and gone
        await worker.send(data)
    head = await worker.receive(wire.ANSWER.size)
    json_length, pixels_length = wire.unpack_lengths(head)
    text = await worker.receive(json_length)
    pixels = np.empty(pixels_length // 4, np.float32)
    if pixels_length:  # an empty array has no memory to look at
        await worker.receive_into(pixels.data.cast("B"))
    return text, pixels
