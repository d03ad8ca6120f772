"""Sends hostile requests to a gateway and counts what comes of it."""

from __future__ import annotations

import ast
import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.hostile.case import Case
from tests.pictures import dicom, png

import llmcxr_models
import llmcxr_service
from llmcxr_service.problems import KINDS, MEDIA_TYPE

_GOOD_EVERY = 100
_BATCH = 185


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        statuses: for each class, how often each answer came: status, problem and reason.
        seconds: of each request, by class.
        untyped: requests that were not refused with a documented problem, at most some.
        good: answers to the sound files in between that were not 200.
        rss_mib: resident memory of this process after the warm-up, and the most since.
    """

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    untyped: list[tuple[Case, str]] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests in all."""
        return sum(map(len, self.seconds.values()))

    def with_status(self, first: int) -> int:
        """How many answers had a status of this hundred."""
        return sum(
            number
            for counter in self.statuses.values()
            for answer, number in counter.items()
            if int(answer[:3]) // 100 == first
        )

    def percentile(self, percent: float, kind: str | None = None) -> float:
        """Seconds within which this part of the requests, or of a class, was answered."""
        every = [second for seconds in self.seconds.values() for second in seconds]
        return float(np.percentile(self.seconds[kind] if kind else every, percent))

    @property
    def growth_mib(self) -> float:
        """How much the gateway's memory grew after the warm-up, at its highest."""
        return max(self.rss_mib) - self.rss_mib[0] if self.rss_mib else 0.0


async def attack(
    client: httpx.AsyncClient, cases: Iterable[Case], *, concurrency: int, warm_up: int = 0
) -> Outcome:
    """Send every case, and a sound file now and then.

    Args:
        client: of the gateway.
        cases: what to send.
        concurrency: requests at once.
        warm_up: requests before the memory's starting point is taken.
    """
    outcome = Outcome()
    source = iter(cases)
    # Made beforehand, for making them takes time too; and not on the gateway's event loop.
    while batch := await asyncio.to_thread(lambda: list(islice(source, _BATCH))):
        waiting = iter(batch)
        await asyncio.gather(
            *(_send(client, waiting, outcome, warm_up) for _ in range(concurrency))
        )
    outcome.rss_mib.append(resident_mib())
    return outcome


async def _send(
    client: httpx.AsyncClient, cases: Iterator[Case], outcome: Outcome, warm_up: int
) -> None:
    for case in cases:
        started = time.perf_counter()
        response = await client.post(
            case.path, content=case.content, headers=case.headers, params=case.params
        )
        outcome.seconds[case.kind].append(time.perf_counter() - started)
        answer, typed = describe(response)
        outcome.statuses[case.kind][answer] += 1
        if not typed and len(outcome.untyped) < 200:
            outcome.untyped.append((case, answer))
        if outcome.count % _GOOD_EVERY == 0:
            outcome.good.append(await _send_good(client, outcome.count))
        if outcome.count >= warm_up and outcome.count % 20 == 0:
            outcome.rss_mib.append(resident_mib())


async def _send_good(client: httpx.AsyncClient, seed: int) -> int:
    data = dicom(seed) if seed // _GOOD_EVERY % 2 else png(seed)
    headers = {"Content-Type": "application/octet-stream"}
    return (await client.post("/generate-report", content=data, headers=headers)).status_code


def describe(response: httpx.Response) -> tuple[str, bool]:
    """Status, problem and reason in one line; and whether it is a documented refusal."""
    status = response.status_code
    if response.headers.get("content-type") != MEDIA_TYPE:
        return f"{status}", False
    problem: dict[str, Any] = json.loads(response.content)
    slug, reason = problem["type"].removeprefix("/problems/"), problem.get("reason")
    documented = {(kind.status, kind.slug) for kind in KINDS.values()}
    typed = 400 <= status < 500 and (status, slug) in documented and reason in known_reasons()
    return f"{status} {slug} {reason}", typed


@cache
def known_reasons() -> frozenset[str]:
    """Every reason that stands in the source of models and service."""
    found: set[str] = set()
    for package in (llmcxr_models, llmcxr_service):
        for path in Path(package.__file__).parent.rglob("*.py"):
            found |= _reasons(ast.parse(path.read_text()))
    return frozenset(found)


def _reasons(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            name: str | None = node.arg
        elif isinstance(node, ast.Assign):
            name = getattr(node.targets[0], "id", None)
        else:
            continue
        value = getattr(node.value, "value", None)
        if name in {"reason", "default_reason"} and isinstance(value, str):
            found.add(value)
    return found


def resident_mib() -> float:
    """Resident memory of this process, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the kernel does not say how much memory this process has")
