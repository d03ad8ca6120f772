"""A measured value with its 95 % bootstrap interval (Efron's percentile method).

Patients are drawn, not images: two pictures of one patient say less than two of two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Interval:
    """A value, where 95 % of its resamplings lie, and on how many units it stands.

    Attributes:
        value: measured on everything.
        low: 2.5th percentile over resamplings.
        high: 97.5th percentile over resamplings.
        n: rows that were measured.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """`{value, low, high, n}` for JSON."""
        return asdict(self)


def bootstrap(
    statistic: Callable[[Indices], float],
    n: int,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Measure `statistic` on all rows and on resamplings of whole groups.

    Args:
        statistic: of row numbers, with repetitions; NaN where it has no value, for example
            an AUROC of one class. Such resamplings are left out.
        n: rows.
        groups: the patient of each row; every row for itself by default.
        resamples: how often to draw.
        seed: of the drawing.

    Raises:
        ValueError: no rows, or as many groups as not.
    """
    if n < 1 or (groups is not None and len(groups) != n):
        raise ValueError("a bootstrap needs rows, and one group a row")
    rows = np.arange(n)
    members = _members(groups) if groups is not None else [rows[i : i + 1] for i in rows]
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(
            np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        )
        for _ in range(resamples)
    ]
    values = np.array([value for value in drawn if np.isfinite(value)])
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return Interval(float(statistic(rows)), float(low), float(high), n)


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.floating],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The mean of one value a row, for example the PSNR of each image."""
    array = np.asarray(values, np.float64)
    return bootstrap(
        lambda rows: float(array[rows].mean()),
        len(array),
        groups=groups,
        resamples=resamples,
        seed=seed,
    )


def jackknife(
    statistic: Callable[[Indices], float],
    n: int,
    *,
    groups: Sequence[Hashable] | None = None,
    folds: int = 20,
    seed: int = 0,
) -> Interval:
    """The same by leaving out each of `folds` parts in turn: value +- 1.96 standard errors.

    For statistics that repetitions distort, where a bootstrap would mislead: distances of nearest
    neighbours, and the Fréchet distance, whose bias grows with each image that is missing.

    Args:
        statistic: of row numbers, each once.
        n: rows.
        groups: the patient of each row, kept in one part.
        folds: parts, or the number of groups if that is less.
        seed: of the partition.

    Raises:
        ValueError: fewer than two groups, or as many groups as not.
    """
    if groups is not None and len(groups) != n:
        raise ValueError("a jackknife needs one group a row")
    members = _members(groups if groups is not None else list(range(n)))
    folds = min(folds, len(members))
    if folds < 2:
        raise ValueError("a jackknife needs two groups at least")
    fold_of = np.empty(n, np.intp)
    for position, group in enumerate(np.random.default_rng(seed).permutation(len(members))):
        fold_of[members[group]] = position % folds
    parts = np.array([statistic(np.flatnonzero(fold_of != fold)) for fold in range(folds)])
    error = float(np.sqrt((folds - 1) / folds * np.square(parts - parts.mean()).sum()))
    value = float(statistic(np.arange(n)))
    return Interval(value, value - 1.96 * error, value + 1.96 * error, n)


def _members(groups: Sequence[Hashable]) -> list[Indices]:
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.array(members, np.intp) for members in rows.values()]
