"""How good probabilities are: average precision, Brier score, and calibration error.

Rows whose target is unknown (NaN) are left out everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Of a reliability curve."""

Values = NDArray[np.floating]
"""(N,)"""


def average_precision(targets: Values, scores: Values) -> float:
    """Area under the precision-recall curve, without interpolation; NaN without a positive.

    As scikit-learn's `average_precision_score`, ties taken together, and quick enough for a
    thousand resamplings. A score that knows nothing has the share of positives.
    """
    truth, scores = _known(targets, scores)
    present = int(truth.sum())
    if not present:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order])[ends]
    recall_steps = np.diff(hits, prepend=0) / present
    return float((recall_steps * hits / (ends + 1)).sum())


def brier_score(targets: Values, probabilities: Values) -> float:
    """Mean squared error of probabilities (Brier, 1950); NaN where nothing is known."""
    truth, values = _known(targets, probabilities)
    return float(np.square(values - truth).mean()) if len(truth) else float("nan")


def expected_calibration_error(
    targets: Values, probabilities: Values, *, bins: int = BINS
) -> float:
    """Mean distance of stated and observed frequency over bins of equal width, by their size.

    Guo et al., arXiv 1706.04599; torchmetrics' `BinaryCalibrationError` with the L1 norm.
    NaN where nothing is known. It grows as the number of images falls.
    """
    curve = reliability(targets, probabilities, bins=bins)
    total = curve.counts.sum()
    if not total:
        return float("nan")
    return float((curve.counts * np.abs(curve.stated - curve.observed)).sum() / total)


@dataclass(frozen=True)
class Reliability:
    """A calibration curve; bins that hold nothing are left out.

    Attributes:
        stated: mean probability in each bin.
        observed: share of positives in it.
        counts: images in it.
    """

    stated: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]


def reliability(targets: Values, probabilities: Values, *, bins: int = BINS) -> Reliability:
    """Stated against observed frequency in bins of equal width."""
    truth, values = _known(targets, probabilities)
    which = np.clip((values * bins).astype(np.intp), 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    stated = np.bincount(which, weights=values, minlength=bins)[filled] / counts[filled]
    observed = np.bincount(which, weights=truth, minlength=bins)[filled] / counts[filled]
    return Reliability(stated, observed, counts[filled].astype(np.int64))


def _known(targets: Values, values: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(targets)
    return (targets[known] > 0.5).astype(np.float64), values[known].astype(np.float64)
