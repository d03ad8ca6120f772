"""The whole attack: thousands of hostile requests, a table, and a JSON file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.hostile.attack import Outcome, attack
from tests.hostile.gateway import gateway, workers_replaced
from tests.hostile.generator import KINDS, hostile_cases

GOALS = {"gateway_deaths": 0, "answers_5xx": 0, "typed_4xx_percent": 100.0,
         "gateway_growth_mib": 64, "p99_seconds": 2.0}  # fmt: skip


async def run(count: int, seed: int, concurrency: int) -> dict[str, Any]:
    """Attack a gateway in this process; that it returns means that the process did not die."""
    load, started = os.getloadavg(), time.perf_counter()
    async with gateway() as (client, app):
        outcome = await attack(
            client, hostile_cases(count, seed), concurrency=concurrency, warm_up=count // 20
        )
        replaced = workers_replaced(app)
    seconds = time.perf_counter() - started
    result = summary(outcome) | {"decode_workers_replaced": replaced}
    settings = {
        "seed": seed,
        "concurrency": concurrency,
        "seconds": round(seconds, 1),
        "cores": os.cpu_count(),
        "load_average_before_and_after": [round(load[0], 2), round(os.getloadavg()[0], 2)],
    }
    return {"settings": settings, "goals": GOALS, "result": result, "classes": classes(outcome)}


def summary(outcome: Outcome) -> dict[str, Any]:
    """The figures that the goals are about."""
    typed = outcome.count - len(outcome.untyped)
    return {
        "requests": outcome.count,
        "classes": len(outcome.statuses),
        "gateway_deaths": 0,
        "answers_5xx": outcome.with_status(5),
        "answers_2xx": outcome.with_status(2),
        "typed_4xx_percent": round(100.0 * typed / outcome.count, 3),
        "gateway_growth_mib": round(outcome.growth_mib, 1),
        "p50_seconds": round(outcome.percentile(50), 4),
        "p99_seconds": round(outcome.percentile(99), 4),
        "max_seconds": round(outcome.percentile(100), 4),
        "sound_files_between": {str(k): v for k, v in sorted(Counter(outcome.good).items())},
    }


def classes(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """For each class, its answers and how often each came, and how long they took."""
    return {
        kind: {
            "requests": len(outcome.seconds[kind]),
            "p50_seconds": round(outcome.percentile(50, kind), 4),
            "p99_seconds": round(outcome.percentile(99, kind), 4),
            "answers": dict(outcome.statuses[kind].most_common()),
        }
        for kind in KINDS
    }


def main() -> None:
    """Read the arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=2, help="requests at once")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.count, arguments.seed, arguments.concurrency))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")
    console = Console()
    table = Table("Class", "Requests", "p99, s", "Answers")
    for kind, seen in found["classes"].items():
        lines = "\n".join(f"{number} x {answer}" for answer, number in seen["answers"].items())
        table.add_row(kind, str(seen["requests"]), f"{seen['p99_seconds']:.2f}", lines)
    console.print(table)
    console.print_json(json.dumps(found["result"]))
    console.print_json(json.dumps(found["settings"]))


if __name__ == "__main__":
    main()
