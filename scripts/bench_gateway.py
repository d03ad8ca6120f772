"""`make bench`: what the gateway adds, and what concurrency gains, measured on this machine.

1. Against the real vLLM: N images one after the other, then all at once; the ratio of the wall
   times. Overhead of each request = its wall time at the client, less the time spent waiting for
   vLLM (`generate`) and for the VQ-GAN (`encode`, `draw`), at concurrency 1 and 16.
2. Against a scripted vLLM that answers at once, in a process of its own: the same overhead and
   the wire to the backend with it, with nothing else computing on the machine.

Prints a table and writes docs/benchmarks/gateway.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from scripted_vllm import scripted_vllm

from llmcxr_service.demo import own_service
from llmcxr_service.settings import load_settings

Call = Callable[[], Coroutine[Any, Any, httpx.Response]]
ROOT = Path(__file__).resolve().parent.parent
REPORT = "Findings: The heart is enlarged. The lungs are clear. Impression: Cardiomegaly."
OUTSIDE = ("generate", "encode", "draw")
"""Stages that wait for vLLM or for the VQ-GAN."""


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32, help="images at once")
    parser.add_argument("--requests", type=int, default=200, help="requests to the scripted vLLM")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/gateway.json")
    arguments = parser.parse_args()
    console = Console()
    settings = load_settings()
    results: dict[str, Any] = {"machine": _machine()}
    with own_service(settings, {}, console) as url:
        results["vllm"] = asyncio.run(_real(url, arguments.images))
    with scripted_vllm(settings.checkpoint) as backend:
        os.environ["LLMCXR_VLLM_URL"] = backend
        with own_service(load_settings(), {}, console) as url:
            results["scripted"] = asyncio.run(_scripted(url, arguments.requests))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    _print(results, console)


async def _real(url: str, images: int) -> dict[str, Any]:
    sample = (ROOT / "samples" / "example-patient.dcm").read_bytes()
    async with _client(url) as client:
        await _draw(client, 0)  # the first call fills caches
        sequential, one_by_one = await _run([partial(_draw, client, i) for i in range(images)], 1)
        concurrent, at_once = await _run([partial(_draw, client, i) for i in range(images)], images)
        reports = [partial(_report, client, sample, i) for i in range(images)]
        reports_1, reports_one_by_one = await _run(reports[: images // 2], 1)
        reports_16, reports_at_once = await _run(reports, 16)
        sixteen, _ = await _run([partial(_draw, client, i) for i in range(images)], 16)
    ok = [answer for answer in concurrent if answer["status"] == 200]
    return {
        "images": images,
        "images_sequential_seconds": round(one_by_one, 2),
        "images_concurrent_seconds": round(at_once, 2),
        "images_concurrent_statuses": sorted({answer["status"] for answer in concurrent}),
        "images_concurrent_answered": len(ok),
        "images_speedup_concurrent_over_sequential": round(one_by_one / at_once, 2),
        "reports_per_second_at_1": round(len(reports_1) / reports_one_by_one, 3),
        "reports_per_second_at_16": round(len(reports_16) / reports_at_once, 3),
        "overhead_ms_image_at_1": _overhead(sequential),
        "overhead_ms_image_at_16": _overhead(sixteen),
        "overhead_ms_report_at_1": _overhead(reports_1),
        "overhead_ms_report_at_16": _overhead(reports_16),
    }


async def _scripted(url: str, requests: int) -> dict[str, Any]:
    sample = (ROOT / "samples" / "example-patient.dcm").read_bytes()
    async with _client(url) as client:
        await _run([partial(_instruct, client, i) for i in range(20)], 4)
        result: dict[str, Any] = {"requests": requests}
        for concurrency in (1, 16):
            kinds: dict[str, list[Call]] = {
                "instruct": [partial(_instruct, client, i) for i in range(requests)],
                "report": [partial(_report, client, sample, i) for i in range(requests)],
            }
            for name, calls in kinds.items():
                answers, _ = await _run(calls, concurrency)
                outside = ("encode", "draw")  # the wire to the scripted vLLM counts as ours
                result[f"overhead_ms_{name}_at_{concurrency}"] = _overhead(answers, outside)
        return result


async def _run(calls: Sequence[Call], concurrency: int) -> tuple[list[dict[str, Any]], float]:
    """All calls with at most `concurrency` at once; their answers and the wall time, seconds."""
    gate = asyncio.Semaphore(concurrency)

    async def one(call: Call) -> dict[str, Any]:
        async with gate:
            started = time.perf_counter()
            response = await call()
            wall = (time.perf_counter() - started) * 1000.0
        stages = response.json().get("timings_ms", {}) if response.is_success else {}
        return {"status": response.status_code, "wall_ms": wall, "stages": stages}

    started = time.perf_counter()
    answers = await asyncio.gather(*(one(call) for call in calls))
    return list(answers), time.perf_counter() - started


def _overhead(answers: list[dict[str, Any]], outside: tuple[str, ...] = OUTSIDE) -> dict[str, Any]:
    values = [
        answer["wall_ms"] - sum(answer["stages"].get(stage, 0.0) for stage in outside)
        for answer in answers
        if answer["status"] == 200
    ]
    return {
        "p50": round(float(np.percentile(values, 50)), 2),
        "p99": round(float(np.percentile(values, 99)), 2),
        "n": len(values),
    }


async def _draw(client: httpx.AsyncClient, seed: int) -> httpx.Response:
    return await client.post("/generate-image", json={"report": REPORT, "seed": seed})


async def _report(client: httpx.AsyncClient, sample: bytes, seed: int) -> httpx.Response:
    files = {"file": ("radiograph", sample, "application/dicom")}
    return await client.post("/generate-report", files=files, data={"seed": str(seed)})


async def _instruct(client: httpx.AsyncClient, seed: int) -> httpx.Response:
    body = {"instruction": "Say what a chest radiograph is.", "seed": seed, "max_tokens": 16}
    return await client.post("/instruct", json=body)


def _client(url: str) -> httpx.AsyncClient:
    headers = {"Accept": "application/json"}
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    return httpx.AsyncClient(
        base_url=url, headers=headers, timeout=900.0, limits=limits, trust_env=False
    )


def _machine() -> dict[str, Any]:
    words = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in words]
    return {"cores": os.cpu_count(), "architecture": platform.machine(), "flags": flags}


def _print(results: dict[str, Any], console: Console) -> None:
    for part in ("vllm", "scripted"):
        table = Table("Figure", "Value", title=f"Gateway and {part} backend")
        for name, value in results[part].items():
            table.add_row(name, json.dumps(value))
        console.print(table)


if __name__ == "__main__":
    main()
