"""Section `kills`: SIGKILL of the gateway at random with jobs running; see kill_jobs.py.

Each call adds one run to those that the file has, with a seed that no other has. What was lost
once stays in the sums.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kill_jobs
from reliability_runs import Figures, added_up, choose_seed, earlier_runs, machine
from tests.postgresql import open_cluster

SECTION = "kills"
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
BAD = ("jobs_lost", "items_lost", "jobs_double", "answers_changed", "audit_complaints")
COUNTS = (
    "kills",
    "kills_in_start",
    "kills_with_jobs_not_known_to_be_done",
    "jobs",
    "items",
    "submissions",
    "acknowledged",
    "audit_events",
)


def add_kill_options(parser: argparse.ArgumentParser) -> None:
    """The section's options."""
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop killing after these")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), default=SQLITE)
    parser.add_argument("--seed", type=int, help="one that no run had; else the next one")


def run_kills(arguments: argparse.Namespace, checkpoint: Path) -> Figures:
    """As many kills as are asked for, added to those that were made before.

    Raises:
        NoPostgresql: it is asked for, and not installed.
        UsedSeed: a run has the seed already.
    """
    del checkpoint  # the experiment makes its own
    seed = choose_seed(earlier_runs(arguments.output, SECTION), arguments.seed)
    with tempfile.TemporaryDirectory() as name, _database(arguments, Path(name)) as url:
        directory = Path(name) / "gateway"
        directory.mkdir()
        before = machine()
        found = kill_jobs.run(arguments.kills, seed, directory, url, arguments.minutes)
    run = {**found, "machine": before}
    return together([*earlier_runs(arguments.output, SECTION), run])


def together(runs: list[Figures]) -> Figures:
    """All runs as one, each database by itself, and run by run."""
    sums = added_up(runs, (*COUNTS, *BAD))
    return {
        "what": "SIGKILL of the gateway at random moments with jobs running",
        **sums,
        "kills_by_database": {
            database: sum(run["kills"] for run in runs if run["database"] == database)
            for database in (SQLITE, POSTGRESQL)
        },
        "seeds": [run["seed"] for run in runs],
        "runs": runs,
        "holds": not any(sums[name] for name in BAD),
    }


@contextmanager
def _database(arguments: argparse.Namespace, directory: Path) -> Iterator[str | None]:
    if arguments.database == SQLITE:
        yield None
        return
    with open_cluster(directory) as cluster:
        yield cluster.new_database()
