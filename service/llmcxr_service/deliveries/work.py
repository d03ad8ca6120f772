"""One piece of work in the queue, and how its id says which one. Pure; no text of a patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from llmcxr_service.deliveries.destinations import DRAFT

APPLICATION = "llmcxr"
DEAD = "dead"
"""Queue and workflow of what was given up: nobody listens, so it stays until somebody decides."""


@dataclass(frozen=True)
class Also:
    """Other work of this process on the same queue's database: DBOS is there once in a process.

    Attributes:
        workflows: by name; each takes and returns JSON, and raises nothing.
        queues: how many workflows each runs at the same time, by the queue's name.
        poll_seconds: how often these queues are looked at.
    """

    workflows: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(
        default_factory=dict
    )
    queues: Mapping[str, int] = field(default_factory=dict)
    poll_seconds: float = 0.25


class State(StrEnum):
    """Of a delivery, as administrators see it."""

    QUEUED = "queued"
    WAITING = "waiting"
    """For its next attempt."""
    WORKING = "working"
    FAILED = "failed"
    """An attempt in a delivery's history that another one followed."""
    DONE = "done"
    DEAD = "dead"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Work:
    """An attempt to make a report, or to send one to one destination.

    Attributes:
        job: opaque id of the received instance.
        target: `draft`, or a destination's name.
        attempt: counts up over the delivery's whole life.
        failures: in a row; the pause grows with them.
        since: seconds since the epoch; giving up is counted from here.
        outputs: what to make or to send.
        destinations: where a draft goes.
        reason: why the attempt before failed; empty for the first.
    """

    job: str
    target: str
    attempt: int
    failures: int
    since: float
    outputs: tuple[str, ...]
    destinations: tuple[str, ...] = ()
    reason: str = ""

    @property
    def delivery(self) -> str:
        """Id for people and URLs."""
        return f"{self.job}.{self.target}"

    @property
    def workflow_id(self) -> str:
        """Id for the queue: enqueueing the same attempt twice is enqueueing it once."""
        return f"{self.delivery}.{self.attempt}"

    @property
    def queue(self) -> str:
        """Where it waits."""
        return queue_of(self.target)

    @property
    def workflow(self) -> str:
        """What runs it."""
        return "draft" if self.target == DRAFT else "send"

    def next(self, *, reason: str, failures: int, since: float | None = None) -> Work:
        """The attempt after this one."""
        return replace(
            self,
            attempt=self.attempt + 1,
            failures=failures,
            since=self.since if since is None else since,
            reason=reason,
        )

    def to_json(self) -> dict[str, Any]:
        """As the queue keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Work:
        """As it comes back."""
        lists = {name: tuple(data[name]) for name in ("outputs", "destinations")}
        return cls(**{**data, **lists})


def queue_of(target: str) -> str:
    """The queue of a target."""
    return DRAFT if target == DRAFT else f"send-{target}"
