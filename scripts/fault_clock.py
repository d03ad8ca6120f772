"""Faults of the clock: the gateway's host finds that its clock was wrong, and sets it.

What has an end by the clock has it; everything else must not notice: deadlines, limits of rates,
kept answers, jobs in work.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fault_outcome import Outcome, gathered, instruct, until_well
from fault_processes import Processes
from tests.service.conftest import serve

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key
from llmcxr_service.access.keys import new_key

CLIENTS = 8
SECONDS = {"clock-ahead": 3600, "clock-back": -7200}
KINDS = tuple(SECONDS)
LIBRARY = "libfaketime.so.1"
_LOADED_FROM = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime")
RATE_PER_MINUTE = 600
MOST_TRIES = 4000
"""For a caller to come to its limit; a slow machine may never."""


class NoClock(Exception):
    """The library that sets a process's clock is not installed (Debian: libfaketime)."""


def run(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """These kinds, each against a gateway of its own.

    Raises:
        NoClock: see there.
    """
    outcomes = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as directory:
            processes = Processes(checkpoint, Path(directory), repeats)
            outcomes[kind] = asyncio.run(_clock_set(processes, SECONDS[kind]))
    return outcomes


async def _clock_set(processes: Processes, seconds: int) -> Outcome:
    """The clock of the gateway's host jumps, and later back to what is right."""
    outcome = Outcome()
    clock = Clock(processes.directory / "clock")
    keys = {
        name: _key(processes.directory, hours)
        for name, hours in (("long", 0), ("short", 0.5), ("busy", 0))
    }
    settings = {
        **clock.environment(),
        "open": "false",
        "keys": str(processes.directory / "keys.json"),
        "jobs": "true",
        "rate_limit": f"{max(RATE_PER_MINUTE, 4 * processes.repeats)}/minute",
    }
    vllm = processes.fake()
    with serve(vllm.app()) as vllm_url, processes.gateways(vllm_url, **settings) as (url, gates):
        gateway = gates.start()
        async with httpx.AsyncClient(timeout=60.0, trust_env=False) as client:
            trial = ClockTrial(processes, client, url, keys, outcome)
            await processes.draw(client, url, trial.as_caller("long"))
            await trial.before()
            clock.set_to(seconds)
            await trial.after(seconds)
            clock.set_to(0)

            async def well() -> bool:
                return await trial.is_well()

            outcome.recovery_seconds = await until_well(well)
        gateway.end(signal.SIGTERM)
    return outcome


def _key(directory: Path, hours: float) -> str:
    expires = datetime.now(UTC) + timedelta(hours=hours) if hours else None
    text, key = new_key("somebody", tuple(Scope), expires=expires)
    add_key(directory / "keys.json", key)
    return text


@dataclass
class ClockTrial:
    """What a clock that jumps must not change, and what it must."""

    processes: Processes
    client: httpx.AsyncClient
    url: str
    keys: Mapping[str, str]
    outcome: Outcome
    job: str = ""
    kept: bytes = b""

    def as_caller(self, name: str) -> dict[str, str]:
        """Headers of one of the callers."""
        return {"Authorization": f"Bearer {self.keys[name]}"}

    async def before(self) -> None:
        """A job in work, an answer that is kept, a caller at its limit."""
        self.kept = (await self._keyed()).content
        items = [{"report": f"Report {n}.", "seed": n} for n in range(6)]
        submitted = await self.client.post(
            f"{self.url}/jobs",
            json={"task": "generate-image", "items": items},
            headers=self.as_caller("long"),
        )
        self.job = submitted.raise_for_status().json()["id"]
        answers: list[int] = []
        while httpx.codes.TOO_MANY_REQUESTS not in answers and len(answers) < MOST_TRIES:
            asked = (self._model("busy") for _ in range(CLIENTS))
            answers += [answer.status_code for answer in await asyncio.gather(*asked)]
        self.outcome.notes["asked_to_the_limit"] = len(answers)
        self.outcome.notes["came_to_the_limit"] = httpx.codes.TOO_MANY_REQUESTS in answers

    async def after(self, seconds: int) -> None:
        """While the clock is wrong."""

        async def one(seed: int) -> None:
            answer = await instruct(self.client, self.url, seed, self.as_caller("long"))
            self.processes.judge(self.outcome, seed, answer, set())

        await gathered(self.processes.repeats, CLIENTS, one)
        # Of the same key the same answer; a key that has an end has it by the clock.
        again = await self._keyed()
        same = again.is_success and again.content == self.kept
        self.outcome.answers["same answer again" if same else "another answer"] += 1
        self.outcome.wrong += not same
        short = await self._model("short")
        over = seconds > 1800
        reason = "" if short.is_success else short.json()["reason"]
        fits = reason == ("expired-credentials" if over else "")
        self.outcome.answers[f"key with an end: {short.status_code} {reason}".strip()] += 1
        self.outcome.wrong += not fits
        # A caller at its limit may be let in again, and is never kept out longer than a minute.
        busy = await self._model("busy")
        self.outcome.answers[f"caller at its limit: {busy.status_code}"] += 1
        if not busy.is_success:
            waits = int(busy.headers.get("retry-after", "0"))
            self.outcome.wrong += busy.status_code != 429 or not 0 < waits <= 60

    async def is_well(self) -> bool:
        """The clock is right again: all keys are good, and the job is done."""
        if not (await self._model("short")).is_success:
            return False
        job = await self.client.get(f"{self.url}/jobs/{self.job}", headers=self.as_caller("long"))
        return bool(job.json().get("state") == "completed")

    async def _keyed(self) -> httpx.Response:
        headers = {**self.as_caller("long"), "Idempotency-Key": "kept"}
        return await instruct(self.client, self.url, 1, headers)

    async def _model(self, name: str) -> httpx.Response:
        return await self.client.get(f"{self.url}/model", headers=self.as_caller(name))


class Clock:
    """What time a process thinks it is; only the wall clock, as when a host's clock is set.

    Args:
        path: of the file that says so.

    Raises:
        NoClock: there is no such library here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = [Path(folder) / LIBRARY for folder in _LOADED_FROM]
        self._library = next((library for library in found if library.exists()), None)
        if self._library is None:
            raise NoClock("the clock can be set only where libfaketime is installed")
        self.set_to(0)

    def set_to(self, seconds: int) -> None:
        """So much ahead of what is right; negative: behind."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self._path)

    def environment(self) -> dict[str, str]:
        """For the process."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
