"""Section `load`: requests at a rated pace, then at four times of it, from an open loop.

The gateway is a process of its own, and so is a scripted vLLM that answers after a fixed time.
Requests come evenly and do not wait for each other, as from many clients. Overhead is a
request's wall time at the client less the time that the gateway waited for vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from scripted_vllm import scripted_vllm

ROOT = Path(__file__).resolve().parents[1]
OVERLOAD = 4


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent, how it was answered, milliseconds."""

    sent: float
    status: int
    wall_ms: float
    generate_ms: float


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--rate", type=float, default=40.0, help="rated requests a second")
    parser.add_argument("--seconds", type=float, default=600.0, help="at the rated pace")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="at four times")
    parser.add_argument("--backend-ms", type=float, default=100.0, help="vLLM's answer takes this")
    parser.add_argument("--max-pending", type=int, default=0, help="0: what the pace needs, x 2")


def run_load(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """Rated load, then overload, against one gateway."""
    needed = arguments.rate * arguments.backend_ms / 1000.0
    max_pending = arguments.max_pending or max(4, round(2 * needed) + 1)
    with (
        scripted_vllm(checkpoint, arguments.backend_ms / 1000.0) as vllm,
        _gateway(checkpoint, vllm, max_pending) as (process, url),
    ):
        rated, slope, over = asyncio.run(_measure(arguments, url, process.pid))
    return _result(arguments, max_pending, rated, slope, over)


async def _measure(
    arguments: argparse.Namespace, url: str, pid: int
) -> tuple[list[Sample], float, list[Sample]]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(
        base_url=url, timeout=60.0, limits=limits, trust_env=False
    ) as client:
        await _pace(client, arguments.rate, min(5.0, arguments.seconds))  # caches, connections
        memory = asyncio.create_task(_watch_memory(pid))
        rated = await _pace(client, arguments.rate, arguments.seconds)
        memory.cancel()
        points = (await asyncio.gather(memory, return_exceptions=True))[0]
        slope = _slope(points) if isinstance(points, list) else 0.0
        over = await _pace(client, OVERLOAD * arguments.rate, arguments.overload_seconds)
    return rated, slope, over


async def _pace(client: httpx.AsyncClient, rate: float, seconds: float) -> list[Sample]:
    """Send `rate` requests a second, evenly, whatever comes back."""
    started = time.perf_counter()
    tasks = []
    for number in range(max(1, int(rate * seconds))):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(_one(client, number)))
    return list(await asyncio.gather(*tasks))


async def _one(client: httpx.AsyncClient, seed: int) -> Sample:
    started = time.perf_counter()
    body = {"instruction": "Say what a chest radiograph is.", "seed": seed, "max_tokens": 16}
    try:
        response = await client.post("/instruct", json=body)
    except httpx.HTTPError:
        return Sample(started, 0, (time.perf_counter() - started) * 1000.0, 0.0)
    wall = (time.perf_counter() - started) * 1000.0
    timings = response.json().get("timings_ms", {})
    refused_well = response.status_code == 503 and "retry-after" in response.headers
    status = response.status_code if response.is_success or refused_well else 0
    return Sample(started, status, wall, timings.get("generate", 0.0))


async def _watch_memory(pid: int) -> list[tuple[float, float]]:
    points = []
    try:
        while True:
            points.append((time.monotonic(), _resident_mib(pid)))
            await asyncio.sleep(1.0)
    except asyncio.CancelledError:
        return points


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _slope(points: list[tuple[float, float]]) -> float:
    """MiB an hour by least squares, over the second half: the first one fills caches."""
    late = points[len(points) // 2 :]
    if len(late) < 3:
        return 0.0
    seconds, mib = np.array(late).T
    return float(np.polyfit(seconds, mib, 1)[0]) * 3600.0


def _result(
    arguments: argparse.Namespace,
    max_pending: int,
    rated: list[Sample],
    slope: float,
    over: list[Sample],
) -> dict[str, Any]:
    good = [s for s in rated if s.status == 200]
    accepted = [s.wall_ms for s in over if s.status == 200]
    refused = [s.wall_ms for s in over if s.status == 503]
    overhead = [s.wall_ms - s.generate_ms for s in good]
    rated_p99 = _percentile([s.wall_ms for s in good], 99)
    accepted_p99 = _percentile(accepted, 99)
    errors = (len(rated) - len(good)) / len(rated)
    figures = {
        "rate_per_second": arguments.rate,
        "backend_ms": arguments.backend_ms,
        "max_pending": max_pending,
        "rated_seconds": arguments.seconds,
        "rated_answered": len(good),
        "rated_errors": round(errors, 5),
        "overhead_ms_p50": _percentile(overhead, 50),
        "overhead_ms_p99": _percentile(overhead, 99),
        "memory_mib_per_hour": round(slope, 1),
        "overload_seconds": arguments.overload_seconds,
        "overload_accepted": len(accepted),
        "overload_refused": len(refused),
        "overload_wrong": sum(s.status == 0 for s in over),
        "refused_ms_p99": _percentile(refused, 99),
        "rated_ms_p99": rated_p99,
        "accepted_ms_p99": accepted_p99,
        "accepted_p99_over_rated": round(accepted_p99 / rated_p99, 2) if rated_p99 else 0.0,
    }
    figures["holds"] = (
        errors <= 0.001
        and figures["overhead_ms_p50"] <= 5.0
        and figures["overhead_ms_p99"] <= 30.0
        and figures["refused_ms_p99"] <= 50.0
        and figures["accepted_p99_over_rated"] <= 1.5
        and slope < 1.0
        and figures["overload_wrong"] == 0
    )
    return figures


def _percentile(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 2) if values else 0.0


@contextmanager
def _gateway(
    checkpoint: Path, vllm: str, max_pending: int
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")},
        "LLMCXR_CHECKPOINT": str(checkpoint),
        "LLMCXR_OPEN": "true",
        "LLMCXR_PORT": str(port),
        "LLMCXR_VLLM_URL": vllm,
        "LLMCXR_DEVICE": "cpu",
        "LLMCXR_DECODE_WORKERS": "1",
        "LLMCXR_MAX_PENDING": str(max_pending),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "llmcxr_service", "serve"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(process, url)
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 180.0
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the gateway did not start")
        try:
            if httpx.get(f"{url}/health/ready", trust_env=False, timeout=5.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the gateway did not become ready")
