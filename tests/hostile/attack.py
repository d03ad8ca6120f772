"""Sends hostile requests through one door of a gateway and counts what comes of it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import httpx
import numpy as np
from tests.hostile.case import AnyCase
from tests.hostile.generator import Door
from tests.hostile.senders import DimseSender, HttpSender, Meaning, Said, sender
from tests.hostile.server import Hospital

_SOUND_EVERY = 100
_BATCH = 185
_FIRST_REPORT_SECONDS = 120.0


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        statuses: for each class, how often each answer came.
        meanings: how often answers meant what.
        seconds: of each request, by class.
        untyped: requests that were not refused as documented, at most some.
        sound: answers to the sound files in between.
        kept: hostile instances that were taken into the queue.
        sound_kept: sound ones.
        rss_mib: resident memory of the gateway after the warm-up, and now and then since.
        died: whether the gateway ended.
        digest: SHA-256 of all cases in their order.
    """

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    meanings: Counter[Meaning] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    untyped: list[tuple[AnyCase, str]] = field(default_factory=list)
    sound: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    sound_kept: int = 0
    rss_mib: list[float] = field(default_factory=list)
    died: bool = False
    digest: str = ""

    @property
    def count(self) -> int:
        """Requests in all."""
        return sum(map(len, self.seconds.values()))

    @property
    def server_errors(self) -> int:
        """Answers 5xx that do not say of an archive that it failed."""
        return sum(
            number
            for counter in self.statuses.values()
            for answer, number in counter.items()
            if answer.startswith("5") and " source" not in answer
        )

    def percentile(self, percent: float, kind: str | None = None) -> float:
        """Seconds within which this part of the requests, or of a class, was answered."""
        every = [second for seconds in self.seconds.values() for second in seconds]
        return float(np.percentile(self.seconds[kind] if kind else every, percent))

    @property
    def growth_mib(self) -> float:
        """How much the gateway's memory grew after the warm-up, at its highest."""
        return max(self.rss_mib) - self.rss_mib[0] if self.rss_mib else 0.0

    @property
    def late_growth_mib(self) -> float:
        """How much of that in the second half: what leaks grows on."""
        half = len(self.rss_mib) // 2
        return max(self.rss_mib[half:]) - max(self.rss_mib[: half + 1]) if self.rss_mib else 0.0


def attack(
    hospital: Hospital,
    door: Door,
    cases: Iterable[AnyCase],
    *,
    concurrency: int,
    warm_up: int = 0,
) -> Outcome:
    """Send every case, and a sound file now and then.

    Args:
        hospital: whom to attack; a process of its own, so that making requests is not its time.
        door: where.
        cases: what to send.
        concurrency: requests at once.
        warm_up: requests before the memory's starting point is taken.
    """
    run = _Attack(hospital, warm_up)
    digest = hashlib.sha256()
    source = iter(cases)
    senders = [sender(hospital, door) for _ in range(concurrency)]
    run.warm_up(senders[0])
    with ThreadPoolExecutor(concurrency) as pool:
        # Made beforehand, so that making them is no part of the time of sending.
        while not run.outcome.died and (batch := list(islice(source, _BATCH))):
            for case in batch:
                digest.update(hashlib.sha256(case.kind.encode() + case.identity).digest())
            waiting = _Shared(iter(batch))
            for done in [pool.submit(run.send_all, each, waiting) for each in senders]:
                done.result()
            for each in senders:
                each.rest()
    for each in senders:
        each.close()
    run.outcome.digest = digest.hexdigest()
    run.outcome.rss_mib.append(hospital.server.resident_mib)
    run.outcome.died = not hospital.server.is_alive
    return run.outcome


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, cases: Iterator[AnyCase]) -> None:
        self._cases, self._lock = cases, threading.Lock()

    def __iter__(self) -> _Shared:
        return self

    def __next__(self) -> AnyCase:
        with self._lock:
            return next(self._cases)


class _Attack:
    def __init__(self, hospital: Hospital, warm_up: int) -> None:
        self._hospital, self._warm_up = hospital, warm_up
        self._lock = threading.Lock()
        self.outcome = Outcome()

    def warm_up(self, sender: HttpSender | DimseSender) -> None:
        """One sound file, and what becomes of it: the first report loads libraries that stay."""
        self._count_sound(sender.send_sound(0))
        deadline = time.monotonic() + _FIRST_REPORT_SECONDS
        while len(self._hospital.archive.instances) < 2 * self.outcome.sound_kept:
            if time.monotonic() > deadline:
                raise TimeoutError("the first report did not reach the archive")
            time.sleep(0.1)
        sender.rest()

    def send_all(self, sender: HttpSender | DimseSender, cases: _Shared) -> None:
        for case in cases:
            started = time.perf_counter()
            try:
                said = sender.send(case)
            except (httpx.TransportError, ConnectionError, TimeoutError) as error:
                said = Said(f"no answer: {type(error).__name__}", Meaning.UNTYPED)
                if not self._hospital.server.is_alive:
                    self.outcome.died = True
                    return
            if self._count(case, said, time.perf_counter() - started - said.waited):
                self._count_sound(sender.send_sound(self.outcome.count))

    def _count(self, case: AnyCase, said: Said, seconds: float) -> bool:
        """Whether it is time for a sound file."""
        outcome = self.outcome
        with self._lock:
            outcome.seconds[case.kind].append(seconds)
            outcome.statuses[case.kind][said.text] += 1
            outcome.meanings[said.meaning] += 1
            outcome.kept += said.kept
            if said.meaning is Meaning.UNTYPED and len(outcome.untyped) < 200:
                outcome.untyped.append((case, said.text))
            count = outcome.count
            if count >= self._warm_up and count % 20 == 0:
                outcome.rss_mib.append(self._hospital.server.resident_mib)
            return count % _SOUND_EVERY == 0

    def _count_sound(self, said: Said) -> None:
        with self._lock:
            self.outcome.sound[said.text] += 1
            self.outcome.sound_kept += said.kept
