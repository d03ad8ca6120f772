"""Section `aborts`: clients that go away, with a real vLLM (on this CPU) and the demo checkpoint.

Waves of clients, a quarter of each leaving in the request's head, in its body, while vLLM
generates, and after the first tokens of a stream. After each wave vLLM's own metrics must say
within two seconds that it works on nothing. Each call adds one run to those that the file has.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from reliability_runs import Figures, added_up, choose_seed, earlier_runs, machine
from tests.aborts import Moment, Wave, one_wave, vllm_address
from tests.e2e.conftest import RunningService, start_service

SECTION = "aborts"
FREE_SECONDS = 2.0
BAD = ("waves_not_free_in_time", "waves_without_work", "not_well_afterwards")
COUNTS = ("clients", "waves", "answered_before", *BAD)


def add_abort_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="no wave after these, vLLM's start included"
    )
    parser.add_argument("--seed", type=int, help="one that no run had; else the next one")


def run_aborts(arguments: argparse.Namespace, checkpoint: Path) -> Figures:
    """As many as are asked for, added to those that went away before.

    Raises:
        UsedSeed: a run has the seed already.
    """
    del checkpoint  # the tiny one has no language model
    seed = choose_seed(earlier_runs(arguments.output, SECTION), arguments.seed)
    before = machine()
    end = time.monotonic() + arguments.minutes * 60.0
    with _service() as service:
        waves = asyncio.run(_waves(arguments, service, seed, end))
        service.client.get("/health/ready").raise_for_status()
        answer = service.client.post("/instruct", json={"instruction": "Hi", "max_tokens": 4})
    run = {"seed": seed, **_figures(waves), "machine": before}
    run["not_well_afterwards"] = int(not answer.is_success)
    return together([*earlier_runs(arguments.output, SECTION), run])


def together(runs: list[Figures]) -> Figures:
    """All runs as one, and run by run."""
    sums = added_up(runs, COUNTS)
    return {
        "what": "clients that go away, with a real vLLM on a CPU",
        **sums,
        "by_moment": {moment: sum(r["by_moment"][moment] for r in runs) for moment in Moment},
        "most_running_at_once": max(run["most_running_at_once"] for run in runs),
        "slowest_free_seconds": max(run["slowest_free_seconds"] for run in runs),
        "seeds": [run["seed"] for run in runs],
        "runs": runs,
        "holds": not any(sums[name] for name in BAD),
    }


@contextmanager
def _service() -> Iterator[RunningService]:
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "service.log"
        process, url = start_service(log)
        try:
            with httpx.Client(base_url=url, timeout=300.0, trust_env=False) as client:
                service = RunningService(process, client)
                service.wait_ready()
                # The first answer compiles and fills caches; it would time itself out.
                client.post("/generate-image", json={"report": "Normal."}).raise_for_status()
                yield service
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


async def _waves(
    arguments: argparse.Namespace, service: RunningService, seed: int, end: float
) -> list[Wave]:
    dice = random.Random(seed)
    gateway = str(service.client.base_url).rstrip("/")
    vllm = vllm_address(service.process.pid)
    waves: list[Wave] = []
    while (left := sum(wave.left.total() for wave in waves)) < arguments.clients:
        if waves and time.monotonic() > end:
            break
        waves.append(await one_wave(gateway, vllm, dice, arguments.at_once))
        print(f"{left} left, {waves[-1]}", file=sys.stderr)
    return waves


def _figures(waves: list[Wave]) -> Figures:
    by_moment: Counter[Moment] = sum((wave.left for wave in waves), Counter())
    return {
        "clients": by_moment.total(),
        "by_moment": {moment: by_moment[moment] for moment in Moment},
        "waves": len(waves),
        "answered_before": sum(wave.answered for wave in waves),
        "most_running_at_once": max(wave.running for wave in waves),
        "waves_without_work": sum(wave.running == 0 for wave in waves),
        "slowest_free_seconds": round(max(wave.free_seconds for wave in waves), 2),
        "waves_not_free_in_time": sum(wave.free_seconds > FREE_SECONDS for wave in waves),
    }
