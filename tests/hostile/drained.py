"""What became of the instances that were kept: the queue, once nothing moves in it any more."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from llmcxr_service.deliveries.destinations import DRAFT
from llmcxr_service.deliveries.ledger import Entry, Ledger
from llmcxr_service.deliveries.place import Place
from llmcxr_service.deliveries.work import State

_LOOK_SECONDS = 1.0


def drained(spool: Path, seconds: float, but: str = "") -> dict[str, dict[str, int]]:
    """For drafts and for deliveries, how many ended how: state and reason.

    Args:
        spool: the gateway's.
        seconds: to wait for it.
        but: a destination whose queue may be left; nobody hurries to one that never works.

    Raises:
        TimeoutError: something still moves.
    """
    deadline = time.monotonic() + seconds
    with Ledger(Place(spool).url) as ledger:
        while any(_moves(entry, but) for entry in ledger.open_entries()):
            if time.monotonic() > deadline:
                raise TimeoutError("the queue is still at work")
            time.sleep(_LOOK_SECONDS)
        ended: dict[str, Counter[str]] = {"drafts": Counter(), "deliveries": Counter()}
        for entry in ledger.entries(limit=100_000):
            which = "drafts" if entry.work.target == DRAFT else "deliveries"
            ended[which][f"{entry.state} {entry.reason}".strip()] += 1
    return {which: dict(counter.most_common()) for which, counter in ended.items()}


def _moves(entry: Entry, but: str) -> bool:
    return entry.state is not State.DEAD and entry.work.target != but
