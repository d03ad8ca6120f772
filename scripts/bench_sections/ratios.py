"""Ratios of things that were measured in turn, with an interval; medians and percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats

Ratio = dict[str, Any]
"""`value`, `low` and `high` of its 95 % interval (None where there is only one pair), `n`."""


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Geometric mean of `first[i] / second[i]`, with Student's 95 % interval of its logarithm.

    Both of a pair come from the same round, so what else the machine did falls on both. Ratios
    multiply, so their logarithms are what may be averaged (Fleming and Wallace, "How not to lie
    with statistics", CACM 29(3), 1986). With few rounds the interval is wide, as it should be.

    Raises:
        ValueError: no pair, pairs of unequal number, or a value that is not positive.
    """
    if not first or min(*first, *second) <= 0.0:
        raise ValueError("a ratio needs positive values in pairs")
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    middle = statistics.fmean(logs)
    ratio: Ratio = {"value": _short(math.exp(middle)), "low": None, "high": None, "n": len(logs)}
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / len(logs) ** 0.5
        ratio |= {"low": _short(math.exp(middle - half)), "high": _short(math.exp(middle + half))}
    return ratio


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """`p50`, `p99` and `n`."""
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": _short(float(p50)), "p99": _short(float(p99)), "n": len(values)}


def median(values: Sequence[float]) -> float:
    """The middle one, to four digits."""
    return _short(statistics.median(values))


def _short(value: float) -> float:
    """Four digits; more than any of these figures deserves would only make diffs."""
    return float(f"{value:.4g}")


def turns(rounds: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Each round's number with both sides, 0 first in even rounds and 1 first in odd ones.

    So neither side is always the one that the other has warmed the machine for.
    """
    for number in rounds:
        yield from ((number, side) for side in ((0, 1) if number % 2 == 0 else (1, 0)))
