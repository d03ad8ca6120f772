"""Named figures with their intervals, and what is said of those that could not be measured."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from llmcxr_training.metrics.intervals import Interval

_DIGITS = 6


@dataclass
class Figures:
    """What an evaluation found.

    Attributes:
        values: interval by key, for example `vqgan.psnr_db`.
        not_measured: why, by key.
    """

    values: dict[str, Interval] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, interval: Interval) -> None:
        """Keep a figure; one without a value is not measured."""
        if math.isfinite(interval.value):
            self.values[key] = interval
        else:
            self.skip(key, "it has no finite value on these radiographs")

    def add_share(self, key: str, interval: Interval) -> None:
        """Keep a figure that lies in [0, 1]: a jackknife's interval knows no bounds."""
        self.add(key, _clipped(interval, 0.0, 1.0))

    def add_distance(self, key: str, interval: Interval) -> None:
        """Keep a figure that is never negative; the same."""
        self.add(key, _clipped(interval, 0.0, math.inf))

    def skip(self, key: str, why: str) -> None:
        """State that a figure is missing."""
        self.not_measured[key] = why

    def to_dict(self) -> dict[str, dict[str, float | int | None]]:
        """`{key: {value, low, high, n}}` for JSON; an interval that has no end is null there."""
        return {key: _entry(interval) for key, interval in sorted(self.values.items())}


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        resamples: of bootstraps.
        folds: of jackknives.
    """

    resamples: int
    folds: int


Patients = Sequence[Hashable]
"""The patient of each row."""


def slug(finding: str) -> str:
    """`Pleural Effusion` as it stands in a key: `pleural_effusion`."""
    return finding.lower().replace(" ", "_")


def read_figures(values: Mapping[str, Mapping[str, float | int | None]]) -> dict[str, Interval]:
    """The inverse of `Figures.to_dict`."""

    def number(value: float | int | None) -> float:
        return math.nan if value is None else float(value)

    return {
        key: Interval(
            number(entry["value"]),
            number(entry["low"]),
            number(entry["high"]),
            int(entry["n"] or 0),
        )
        for key, entry in values.items()
    }


def _clipped(interval: Interval, least: float, most: float) -> Interval:
    return Interval(interval.value, max(interval.low, least), min(interval.high, most), interval.n)


def _entry(interval: Interval) -> dict[str, float | int | None]:
    return {
        name: round(value, _DIGITS) if math.isfinite(value) else None
        for name, value in interval.to_dict().items()
    }
