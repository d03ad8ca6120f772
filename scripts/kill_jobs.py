"""Kill the gateway with SIGKILL while it works on jobs, again and again, and count.

    python scripts/reliability.py kills --kills 100

A gateway with a tiny checkpoint and a scripted vLLM at its wire. A client submits batches with an
Idempotency-Key and repeats one until it is acknowledged, as a client should; all items' reports
are different. In the end every job that was acknowledged must exist once, with one whole answer
for each item; no answer that was once read may ever be another one later.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from killed_gateway import (  # noqa: E402
    Gateway,
    free_port,
    listens,
    nursery,
    settings_of_a_gateway,
)
from tests.checkpoints import build_checkpoint  # noqa: E402
from tests.fakes import FakeVllm  # noqa: E402
from tests.service.conftest import serve  # noqa: E402

from llmcxr_models.checkpoint import Checkpoint  # noqa: E402

LONGEST_RUN_SECONDS = 2.5
IN_START = 0.1
"""Part of the kills that come while the gateway still starts."""
ITEMS = (1, 4)
VLLM_SECONDS = 0.15
DRAIN_SECONDS = 900.0
MOST_OPEN = 12
"""Jobs that are not known to be done; no new one is submitted beyond."""


@dataclass
class Sent:
    """One job: what is asked for, and what was heard of it.

    Attributes:
        key: its Idempotency-Key.
        reports: one for each item.
        id: what the gateway called it; empty while it is not acknowledged.
        renamed: whether the same key once got another id.
        seen: digests of answers that were read, by item.
        changed: answers that were another one later.
        done: whether all its answers were there once.
    """

    key: str
    reports: list[str]
    id: str = ""
    renamed: bool = False
    seen: dict[int, str] = field(default_factory=dict)
    changed: int = 0
    done: bool = False
    tries: int = 0


class Kills:
    """The whole of it.

    Args:
        directory: for spool and logs.
        checkpoint: to serve.
        vllm_url: the scripted one.
        dice: decides everything that is random.
        database: URL of a PostgreSQL database; SQLite where None.
    """

    def __init__(
        self,
        directory: Path,
        checkpoint: Path,
        vllm_url: str,
        dice: random.Random,
        database: str | None = None,
    ) -> None:
        self._log, self._dice = directory / "gateway.log", dice
        self.sent: list[Sent] = []
        self.in_start = 0
        self.with_work = 0
        port = free_port()
        self._environment = {
            **settings_of_a_gateway(checkpoint, port, vllm_url, directory / "spool", database),
            "LLMCXR_JOBS": "true",
            "LLMCXR_AUDIT": str(directory / "audit"),
        }
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    @contextmanager
    def nursery(self) -> Iterator[None]:
        """The process that gateways are forked from."""
        with self._client, nursery(self._environment, self._log) as self._nursery:
            yield

    def one_round(self) -> None:
        """Start, submit, kill."""
        gateway = Gateway(self._nursery, self._client, self._log)
        try:
            if self._dice.random() < IN_START:
                time.sleep(self._dice.uniform(0.0, 3.0))
                self.in_start += not listens(self._client)
            else:
                gateway.wait_listening()
                self._submit_until(time.monotonic() + self._dice.uniform(0.0, LONGEST_RUN_SECONDS))
            self.with_work += any(sent.id and not sent.done for sent in self.sent)
        finally:
            gateway.end(signal.SIGKILL)

    def drain(self) -> None:
        """Let a last gateway finish everything, and read every answer."""
        gateway = Gateway(self._nursery, self._client, self._log)
        try:
            gateway.wait_listening()
            for sent in self.sent:
                while not sent.id:
                    self._submit(sent, 10.0)
            deadline = time.monotonic() + DRAIN_SECONDS
            while not all(self._look(sent) for sent in self.sent):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            for sent in self.sent:  # once more from the beginning: has an answer changed?
                sent.done = False
                self._look(sent)
            self.listed = len(self._get("/jobs", limit=1000)["jobs"])
        finally:
            gateway.end(signal.SIGTERM)

    def _submit_until(self, end: float) -> None:
        waiting = [sent for sent in self.sent if not sent.id]
        done = [sent for sent in self.sent if sent.id]
        if done and self._dice.random() < 0.2:
            waiting.append(self._dice.choice(done))  # a client that did not hear the answer
        if sum(not sent.done for sent in self.sent) < MOST_OPEN:
            waiting.append(self._new())
        for sent in waiting:
            if time.monotonic() < end:
                self._submit(sent, max(0.05, end - time.monotonic()))
        for sent in [s for s in self.sent if s.id and not s.done][:3]:
            if time.monotonic() < end:
                self._look(sent)
        time.sleep(max(0.0, end - time.monotonic()))

    def _new(self) -> Sent:
        number = len(self.sent)
        items = self._dice.randint(*ITEMS)
        sent = Sent(f"key-{number}", [f"Report {number} {item}." for item in range(items)])
        self.sent.append(sent)
        return sent

    def _submit(self, sent: Sent, seconds: float) -> None:
        sent.tries += 1
        items = [{"report": report} for report in sent.reports]
        try:
            response = self._client.post(
                "/jobs",
                json={"task": "generate-image", "items": items},
                headers={"Idempotency-Key": sent.key},
                timeout=seconds,
            )
        except httpx.HTTPError:
            return
        if response.status_code == httpx.codes.ACCEPTED:
            name = response.json()["id"]
            sent.renamed = sent.renamed or sent.id not in ("", name)
            sent.id = name
        elif response.status_code not in (409, 503):
            raise RuntimeError(f"{response.status_code}: {response.text}")

    def _look(self, sent: Sent) -> bool:
        """Read the answers that are there; whether all are."""
        if sent.done:
            return True
        try:
            job = self._get(f"/jobs/{sent.id}")
            for item in job["items"]:
                if item["state"] == "done":
                    self._read(sent, item["number"])
        except (httpx.HTTPError, KeyError):
            return False
        sent.done = job["progress"]["done"] == len(sent.reports)
        return sent.done

    def _read(self, sent: Sent, number: int) -> None:
        response = self._client.get(f"/jobs/{sent.id}/results/{number}", timeout=10.0)
        digest = hashlib.sha256(response.raise_for_status().content).hexdigest()
        sent.changed += sent.seen.setdefault(number, digest) != digest

    def _get(self, path: str, **query: int) -> dict[str, Any]:
        answer: dict[str, Any] = (
            self._client.get(path, params=query, timeout=10.0).raise_for_status().json()
        )
        return answer


def count(experiment: Kills, directory: Path) -> dict[str, Any]:
    """What was promised, and what is there."""
    from llmcxr_service.audit_log import verify

    sent = experiment.sent
    acknowledged = [each for each in sent if each.id]
    (audit,) = verify(directory / "audit")
    return {
        "jobs": len(sent),
        "items": sum(len(each.reports) for each in sent),
        "submissions": sum(each.tries for each in sent),
        "acknowledged": len(acknowledged),
        "jobs_lost": sum(not each.done for each in acknowledged),
        "items_lost": sum(len(each.reports) - len(each.seen) for each in acknowledged),
        "jobs_double": experiment.listed
        - len({each.id for each in acknowledged})
        + sum(each.renamed for each in sent),
        "answers_changed": sum(each.changed for each in sent),
        "kills_in_start": experiment.in_start,
        "kills_with_jobs_not_known_to_be_done": experiment.with_work,
        "audit_events": audit.events,
        "audit_complaints": int(bool(audit.complaint)),
    }


def run(
    kills: int, seed: int, directory: Path, database: str | None = None, minutes: float = 1e9
) -> dict[str, Any]:
    """Do it all; the figures.

    Args:
        kills: how many.
        seed: of everything random but the machine's own timing.
        directory: an empty one.
        database: see `Kills`.
        minutes: fewer kills where they take longer than this.
    """
    checkpoint = build_checkpoint(directory / "checkpoint")
    manifest = Checkpoint.open(checkpoint).manifest
    vllm = FakeVllm(
        manifest.served_name,
        manifest.vocabulary.size,
        max_model_len=manifest.max_model_len,
        delay_seconds=VLLM_SECONDS,
    )
    started = time.monotonic()
    with serve(vllm.app()) as vllm_url:
        experiment = Kills(directory, checkpoint, vllm_url, random.Random(seed), database)
        done = 0
        with experiment.nursery():
            while done < kills and time.monotonic() - started < minutes * 60.0:
                experiment.one_round()
                done += 1
                if done % 5 == 0:
                    print(f"{done} kills, {len(experiment.sent)} jobs", file=sys.stderr)
            experiment.drain()
    figures = count(experiment, directory)
    return {
        "what": "random SIGKILL of the gateway with jobs running",
        "kills": done,
        "seed": seed,
        "database": "PostgreSQL" if database else "SQLite",
        "minutes": round((time.monotonic() - started) / 60.0, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, shared",
        "completions_at_the_model": len(vllm.requests),
        **figures,
    }
