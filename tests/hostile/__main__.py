"""The whole attack: thousands of hostile requests through every door, a table, and a JSON file.

A run of some doors replaces their parts of the file and leaves the others, so that it can be made
in pieces; sums are of the pieces, and of times and memory the worst piece counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.hostile.attack import Outcome, attack
from tests.hostile.drained import drained
from tests.hostile.generator import DOORS, Door, hostile_cases
from tests.hostile.senders import Meaning
from tests.hostile.server import Hospital, hospital

GOALS = {"gateway_deaths": 0, "answers_5xx": 0, "documented_refusals_percent": 100.0,
         "gateway_growth_mib": 64, "p99_seconds": 2.0}  # fmt: skip
_DRAIN_SECONDS = 1200.0
_REPLACED = re.compile(r'llmcxr_decode_worker_restarts_total\{reason="([a-z]+)"\} (\d+)')
_REFUSED_DRAFT = "dead unusable"


def run(door: Door, count: int, seed: int, concurrency: int) -> dict[str, Any]:
    """Attack a gateway of its own through one door.

    Args:
        door: where.
        count: requests through all doors; this one gets its share.
        seed: of all of them.
        concurrency: requests at once.
    """
    load, started = os.getloadavg(), time.perf_counter()
    share = count * DOORS[door].percent // 100
    with tempfile.TemporaryDirectory() as folder, hospital(Path(folder)) as place:
        outcome = attack(
            place,
            door,
            hostile_cases(door, share, seed),
            concurrency=concurrency,
            warm_up=share // 20,
        )
        seconds = time.perf_counter() - started
        queue = {} if outcome.died else drained(Path(folder) / "spool", _DRAIN_SECONDS)
        result = summary(outcome) | queue_summary(outcome, queue, place)
    settings = {
        "seed": seed,
        "requests_through_all_doors": count,
        "concurrency": concurrency,
        "seconds": round(seconds, 1),
        "seconds_until_the_queue_was_empty": round(time.perf_counter() - started, 1),
        "cores": os.cpu_count(),
        "load_average_before_and_after": [round(load[0], 2), round(os.getloadavg()[0], 2)],
        "cases_sha256": outcome.digest,
    }
    return {"settings": settings, "result": result, "classes": classes(door, outcome)}


def summary(outcome: Outcome) -> dict[str, Any]:
    """The figures that the goals are about."""
    untyped = outcome.meanings[Meaning.UNTYPED]
    return {
        "requests": outcome.count,
        "gateway_deaths": int(outcome.died),
        "answers_5xx": outcome.server_errors,
        "undocumented_answers": untyped,
        "refused": outcome.meanings[Meaning.REFUSED],
        "archive_failed_502_504": outcome.meanings[Meaning.ARCHIVE],
        "kept_to_be_refused_by_the_queue": outcome.meanings[Meaning.KEPT],
        "gateway_growth_mib": round(outcome.growth_mib, 1),
        "of_which_in_the_second_half_mib": round(outcome.late_growth_mib, 1),
        "p50_seconds": round(outcome.percentile(50), 4),
        "p99_seconds": round(outcome.percentile(99), 4),
        "max_seconds": round(outcome.percentile(100), 4),
        "sound_files_between": dict(sorted(outcome.sound.items())),
    }


def queue_summary(
    outcome: Outcome, queue: dict[str, dict[str, int]], place: Hospital
) -> dict[str, Any]:
    """What became of what was kept; nothing hostile may have become a report."""
    drafts = queue.get("drafts", {})
    return {
        "instances_kept": outcome.kept,
        "sound_instances_kept": outcome.sound_kept,
        "drafts": drafts,
        "deliveries": queue.get("deliveries", {}),
        "sources_in_the_archive": len(
            {source for stored in place.archive.instances.values() for source in stored.sources}
        ),
        "kept_and_not_refused": outcome.kept - drafts.get(_REFUSED_DRAFT, 0),
        "gateway_deaths": int(outcome.died or not place.server.is_alive),
        "decode_workers_replaced": workers_replaced(place),
    }


def workers_replaced(place: Hospital) -> dict[str, int]:
    """How many decode workers were replaced before their time, by cause."""
    if not place.server.is_alive:
        return {}
    found = _REPLACED.findall(place.server.metrics().replace(".0", ""))
    return {reason: int(number) for reason, number in found}


def classes(door: Door, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """For each class, its answers and how often each came, and how long they took."""
    return {
        kind: {
            "requests": len(outcome.seconds[kind]),
            "p50_seconds": round(outcome.percentile(50, kind), 4),
            "p99_seconds": round(outcome.percentile(99, kind), 4),
            "answers": dict(outcome.statuses[kind].most_common()),
        }
        for kind in DOORS[door].kinds
        if outcome.seconds[kind]
    }


_SUMS = ("requests", "gateway_deaths", "answers_5xx", "undocumented_answers", "refused",
         "archive_failed_502_504", "kept_to_be_refused_by_the_queue", "instances_kept",
         "kept_and_not_refused")  # fmt: skip
_WORST = ("gateway_growth_mib", "p99_seconds", "max_seconds")


def together(doors: dict[str, Any]) -> dict[str, Any]:
    """Sums of all doors; of times and memory, the worst door's."""
    results = [door["result"] for door in doors.values()]
    whole: dict[str, Any] = {name: sum(result[name] for result in results) for name in _SUMS}
    kinds = {kind for door in doors.values() for kind in door["classes"]}
    whole["classes"] = len(kinds)
    bad = whole["undocumented_answers"] + max(0, whole["kept_and_not_refused"])
    documented = 1 - bad / whole["requests"]
    whole["documented_refusals_percent"] = round(100.0 * documented, 3)
    whole |= {f"worst_{name}": max(result[name] for result in results) for name in _WORST}
    for name in ("sound_files_between", "decode_workers_replaced", "drafts", "deliveries"):
        whole[name] = dict(sum((Counter(result[name]) for result in results), Counter()))
    return whole


def main() -> int:
    """Read the arguments, run, print, write; status 1 where a request was not refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests through all doors")
    parser.add_argument("--doors", nargs="*", type=Door, default=list(Door), choices=list(Door))
    parser.add_argument("--pieces", nargs="*", type=Path, default=[], help="files of other doors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=2, help="requests at once")
    parser.add_argument("--output", type=Path, help="the JSON file; its other doors are kept")
    arguments = parser.parse_args()
    doors: dict[str, Any] = {}
    for path in [arguments.output, *arguments.pieces]:
        doors |= _pieces(path, arguments.seed, arguments.count)
    for door in arguments.doors:
        doors[door] = run(door, arguments.count, arguments.seed, arguments.concurrency)
        _print_classes(doors[door]["classes"])
    doors = {door.value: doors[door] for door in Door if door in doors}
    whole = together(doors)
    if arguments.output:
        found = {"goals": GOALS, "result": whole, "doors": doors}
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")
    Console().print_json(json.dumps({door: piece["result"] for door, piece in doors.items()}))
    Console().print_json(json.dumps(whole))
    wrong = ("gateway_deaths", "answers_5xx", "undocumented_answers", "kept_and_not_refused")
    return int(any(whole[name] for name in wrong))


def _pieces(output: Path | None, seed: int, count: int) -> dict[str, Any]:
    """What earlier runs found, where they were pieces of the same attack."""
    if output is None or not output.exists():
        return {}
    return {
        door: piece
        for door, piece in json.loads(output.read_text()).get("doors", {}).items()
        if piece["settings"]["seed"] == seed
        and piece["settings"]["requests_through_all_doors"] == count
    }


def _print_classes(found: dict[str, Any]) -> None:
    table = Table("Class", "Requests", "p99, s", "Answers")
    for kind, seen in found.items():
        lines = "\n".join(f"{number} x {answer}" for answer, number in seen["answers"].items())
        table.add_row(kind, str(seen["requests"]), f"{seen['p99_seconds']:.2f}", lines)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
