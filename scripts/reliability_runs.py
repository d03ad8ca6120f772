"""Sections that are run piece by piece: each run has a seed of its own, and figures add up."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


class UsedSeed(Exception):
    """A run with this seed is there already; it would count the same twice."""


def earlier_runs(output: Path, section: str) -> list[Figures]:
    """What a file has of a section, run by run."""
    known = json.loads(output.read_text()) if output.exists() else {}
    runs: list[Figures] = known.get(section, {}).get("runs", [])
    return runs


def choose_seed(runs: Iterable[Mapping[str, Any]], wanted: int | None) -> int:
    """The wanted seed, or the next one that no run has.

    Raises:
        UsedSeed: the wanted one was used.
    """
    used = {int(run["seed"]) for run in runs}
    if wanted is None:
        return max(used, default=0) + 1
    if wanted in used:
        raise UsedSeed(f"Seed {wanted} was used; these were: {sorted(used)}.")
    return wanted


def added_up(runs: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Figures:
    """The sum of each of these figures."""
    return {name: sum(run.get(name, 0) for run in runs) for name in names}


def machine() -> Figures:
    """What else ran here decides what times mean."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "load_average_before": round(os.getloadavg()[1], 1),
    }
