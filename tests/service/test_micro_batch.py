"""Micro-batching: together, apart, cancelled, failing."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from llmcxr_service.micro_batch import MicroBatcher


class Recorder:
    """A batch function that doubles numbers, refuses 13, and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.seconds = 0.0

    def __call__(self, items):
        self.batches.append(list(items))
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


@asynccontextmanager
async def batching(run, **changes):
    sizes = []
    settings = {
        "max_size": 4,
        "wait_seconds": 0.02,
        "on_batch": sizes.append,
        "on_wait": lambda _: None,
        **changes,
    }
    with ThreadPoolExecutor(1, "worker") as executor:
        batcher = MicroBatcher(run, executor, **settings)
        batcher.start()
        yield batcher, sizes
        await batcher.stop()


async def test_items_that_come_together_run_together():
    run = Recorder()
    async with batching(run) as (batcher, sizes):
        results = await asyncio.gather(*(batcher.submit(i) for i in range(6)))
    assert results == [0, 2, 4, 6, 8, 10]
    assert run.batches == [[0, 1, 2, 3], [4, 5]]
    assert sizes == [4, 2]
    assert {name.split("_")[0] for name in run.threads} == {"worker"}


async def test_a_bad_item_fails_alone():
    async with batching(Recorder()) as (batcher, _):
        results = await asyncio.gather(
            *(batcher.submit(i) for i in (1, 13, 3)), return_exceptions=True
        )
        assert (results[0], results[2]) == (2, 6)
        assert isinstance(results[1], ValueError)
        assert await batcher.submit(4) == 8


async def test_a_cancelled_item_is_not_computed():
    run = Recorder()
    async with batching(run, wait_seconds=0.05) as (batcher, _):
        given_up = asyncio.create_task(batcher.submit(1))
        kept = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert await kept == 4
    assert run.batches == [[2]]


async def test_only_cancelled_items_make_no_batch():
    run = Recorder()
    async with batching(run, wait_seconds=0.03) as (batcher, sizes):
        task = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.05)
        assert await batcher.submit(5) == 10
    assert sizes == [1]


async def test_the_event_loop_turns_while_a_batch_runs():
    run = Recorder()
    run.seconds = 0.2
    async with batching(run, wait_seconds=0.0) as (batcher, _):
        task = asyncio.create_task(batcher.submit(1))
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
    assert turns > 5


@pytest.mark.parametrize("delay", [0.0, 0.1])
async def test_stopping_cancels_who_waits(delay):
    run = Recorder()
    run.seconds = 0.2
    async with batching(run, wait_seconds=0.05) as (batcher, _):
        tasks = [asyncio.create_task(batcher.submit(i)) for i in range(6)]
        await asyncio.sleep(delay)
        await batcher.stop()
        await asyncio.wait(tasks, timeout=2.0)
        assert all(task.cancelled() for task in tasks)


async def test_single_items_are_handed_over_before_the_thread_is_free():
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *args, **kwargs):
            self.submitted += 1
            return super().submit(*args, **kwargs)

    gate = threading.Event()

    def run(items):
        gate.wait(10)
        return [2 * item for item in items]

    with Counting(1) as executor:
        batcher = MicroBatcher(
            run,
            executor,
            max_size=1,
            wait_seconds=0.0,
            on_batch=lambda _: None,
            on_wait=lambda _: None,
        )
        batcher.start()
        work = asyncio.gather(*(batcher.submit(i) for i in range(4)))
        await asyncio.sleep(0.1)
        # One at work and one that follows it; the others may still go away.
        assert executor.submitted == 2
        gate.set()
        assert await work == [0, 2, 4, 6]
        await batcher.stop()
