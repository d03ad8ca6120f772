"""AUROC and F1 of a multi-label classifier; rows whose target is unknown (NaN) are left out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap

LEAST_POSITIVES = 15
"""An AUROC on fewer positives says next to nothing."""

MACRO = "macro"

Scores = NDArray[np.floating]
"""(N, F)"""


def auroc(targets: Scores, scores: Scores) -> float:
    """Area under the ROC curve of one finding, (N,) each; NaN with one class only.

    The rank-sum statistic, ties counted half: exact, and quick enough for a thousand resamplings.
    """
    known = np.isfinite(targets)
    truth = targets[known] > 0.5
    present, absent = int(truth.sum()), int((~truth).sum())
    if not present or not absent:
        return float("nan")
    _, inverse, counts = np.unique(scores[known], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return float((ranks[truth].sum() - present * (present + 1) / 2.0) / (present * absent))


def measured_findings(
    targets: Scores, findings: Sequence[object], least_positives: int = LEAST_POSITIVES
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


def f1_macro_of(targets: Scores, called: NDArray[np.bool_], columns: Sequence[int]) -> float:
    """Mean F1 of some findings; 0 for one that is neither present nor called, NaN of none."""
    if not columns:
        return float("nan")
    return f1_macro(targets[:, list(columns)], called[:, list(columns)])


def precision_and_recall(targets: Scores, called: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the decisions on one finding, (N,) each; NaN where nothing is called, or present."""
    known = np.isfinite(targets)
    truth, said = targets[known] > 0.5, called[known]
    hits, stated, present = (int(x.sum()) for x in (truth & said, said, truth))
    nothing = float("nan")
    return (hits / stated if stated else nothing, hits / present if present else nothing)


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


def f1_macro(targets: Scores, called: NDArray[np.bool_]) -> float:
    """Mean over findings of the F1 of decisions (N, F); 0 where nothing is present or called."""
    hits, misses = _hits_and_misses(targets, called)
    return float(np.mean(_f1(hits, misses)))


def f1_micro(targets: Scores, called: NDArray[np.bool_]) -> float:
    """F1 over all decisions (N, F) together; unknown targets (NaN) are left out."""
    hits, misses = _hits_and_misses(targets, called)
    return float(_f1(hits.sum(), misses.sum()))


def _hits_and_misses(
    targets: Scores, called: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right calls of what is present, and wrong decisions of either kind, by finding: (F,) each."""
    known, truth = np.isfinite(targets), targets > 0.5
    hits = (truth & called & known).sum(axis=0).astype(np.float64)
    return hits, ((truth != called) & known).sum(axis=0).astype(np.float64)


def _f1(hits: NDArray[np.float64], misses: NDArray[np.float64]) -> NDArray[np.float64]:
    # 2 TP / (2 TP + FP + FN)
    return np.asarray(2 * hits / np.maximum(2 * hits + misses, 1.0))
