"""Dynamic micro-batching: single items from many requests, run together in one worker thread.

It knows nothing of images. The first item waits a few milliseconds for company.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

_Waiting = tuple[In, "asyncio.Future[Out]", float]
"""An item, its result, and when it came."""


class MicroBatcher(Generic[In, Out]):
    """Collects items, runs them as one batch, hands each its own result.

    Args:
        run: the batch function; blocking, called in `executor`; one result for each item.
        executor: where it runs.
        max_size: most items of a batch.
        wait_seconds: how long the first item waits for others.
        on_batch: told the size of every batch.
        on_wait: told how long an item waited, seconds, when its batch begins; in the executor.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out]],
        executor: Executor,
        *,
        max_size: int,
        wait_seconds: float,
        on_batch: Callable[[int], None],
        on_wait: Callable[[float], None],
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_size = max_size
        self._wait_seconds = wait_seconds
        self._on_batch = on_batch
        self._on_wait = on_wait
        self._queue: asyncio.Queue[_Waiting[In, Out]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: In) -> Out:
        """The result for one item; cancelling it takes the item out of the queue."""
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future, time.perf_counter()))
        return await future

    def start(self) -> None:
        """Begin to work."""
        self._worker = asyncio.create_task(self._keep_busy())

    async def stop(self) -> None:
        """Stop; whoever still waits is cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def _work(self) -> None:
        while True:
            batch: list[_Waiting[In, Out]] = []
            try:
                await self._collect(batch)
                # Whoever went away in the meantime is not computed for.
                batch = [waiting for waiting in batch if not waiting[1].done()]
                if batch:
                    self._on_batch(len(batch))
                    await self._serve(batch, self._begin)
            except asyncio.CancelledError:
                for _, future, _ in batch:
                    future.cancel()
                raise

    async def _keep_busy(self) -> None:
        """As many workers as batches may be handed over.

        A batch of one cannot grow while another one is computed: handed over early, it is there
        when the thread is free, without a turn of the event loop between them.
        """
        workers = 2 if self._max_size == 1 else 1
        await asyncio.gather(*(self._work() for _ in range(workers)))

    async def _collect(self, batch: list[_Waiting[In, Out]]) -> None:
        batch.append(await self._queue.get())
        try:
            async with asyncio.timeout(self._wait_seconds):
                while len(batch) < self._max_size:
                    batch.append(await self._queue.get())
        except TimeoutError:
            pass

    def _begin(self, batch: Sequence[_Waiting[In, Out]]) -> Sequence[Out]:
        now = time.perf_counter()
        for _, _, since in batch:
            self._on_wait(now - since)
        return self._again(batch)

    def _again(self, batch: Sequence[_Waiting[In, Out]]) -> Sequence[Out]:
        return self._run([item for item, _, _ in batch])

    async def _serve(
        self,
        batch: list[_Waiting[In, Out]],
        run: Callable[[Sequence[_Waiting[In, Out]]], Sequence[Out]],
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, run, batch)
        except Exception as error:
            if len(batch) == 1:
                if not batch[0][1].done():
                    batch[0][1].set_exception(error)
                return
            # One bad item must not fail its neighbours: each on its own.
            for waiting in batch:
                await self._serve([waiting], self._again)
            return
        for (_, future, _), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
