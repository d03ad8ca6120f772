"""AUROC and F1 of a multi-label classifier; rows whose target is unknown (NaN) are left out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap

LEAST_POSITIVES = 15
"""An AUROC on fewer positives says next to nothing."""

MACRO = "macro"

Scores = NDArray[np.floating]
"""(N, F)"""


def auroc(targets: Scores, scores: Scores) -> float:
    """Area under the ROC curve of one finding, (N,) each; NaN with one class only."""
    known = np.isfinite(targets)
    truth = targets[known] > 0.5
    if not truth.any() or truth.all():
        return float("nan")
    return float(roc_auc_score(truth, scores[known]))


def measured_findings(
    targets: Scores, findings: Sequence[str], least_positives: int = LEAST_POSITIVES
) -> list[int]:
    """Columns with at least `least_positives` present and one absent."""
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    return [i for i in range(len(findings)) if present[i] >= least_positives and absent[i] > 0]


def macro_auroc(targets: Scores, scores: Scores, columns: Sequence[int]) -> float:
    """Mean AUROC of `columns`; NaN if one of them has none, or without columns."""
    if not columns:
        return float("nan")
    return float(np.mean([auroc(targets[:, c], scores[:, c]) for c in columns]))


def auroc_intervals(
    targets: Scores,
    scores: Scores,
    findings: Sequence[str],
    *,
    least_positives: int = LEAST_POSITIVES,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """AUROC with interval of every finding that has enough positives, and `macro` of them."""
    columns = measured_findings(targets, findings, least_positives)
    chosen = {findings[c]: [c] for c in columns} | ({MACRO: columns} if columns else {})

    def interval(name: str) -> Interval:
        def statistic(rows: Indices) -> float:
            return macro_auroc(targets[rows], scores[rows], chosen[name])

        return bootstrap(statistic, len(targets), groups=groups, resamples=resamples)

    return {name: interval(name) for name in chosen}


def best_f1_threshold(targets: Scores, scores: Scores) -> float:
    """The score from which on to call one finding present, (N,) each, for the highest F1.

    Choose it on validation data. 0.5 where there is no positive.
    """
    known = np.isfinite(targets)
    truth, values = targets[known] > 0.5, scores[known]
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    last_of_a_tie = np.append(np.diff(values[order]) != 0, True)
    return float(values[order][int(np.argmax(np.where(last_of_a_tie, f1, -1.0)))])


def f1(targets: Scores, called: NDArray[np.bool_], *, average: str = "macro") -> float:
    """F1 of decisions (N, F) against targets (N, F); unknown targets are left out.

    Args:
        targets: 1, 0 or NaN.
        called: whether each finding is called present.
        average: `macro` (mean over findings) or `micro` (over all decisions).
    """
    known = np.isfinite(targets)
    truth = targets > 0.5
    if average == "micro":
        return float(f1_score(truth[known], called[known], zero_division=0.0))
    columns = [
        f1_score(truth[k, i], called[k, i], zero_division=0.0) for i, k in enumerate(known.T)
    ]
    return float(np.mean(columns))
