"""AUROC, F1 and thresholds against scikit-learn and against cases done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from llmcxr_training.metrics.classification import (
    auroc,
    auroc_intervals,
    best_f1_threshold,
    f1_macro,
    f1_micro,
    macro_auroc,
    measured_findings,
)

NAN = float("nan")


def drawn(n: int, findings: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, findings)) < 0.2).astype(np.float32)
    # Rounded, so that there are ties.
    return targets, np.round(targets + rng.normal(0, 1, (n, findings)), 1)


def test_auroc_is_scikit_learn_s() -> None:
    targets, scores = drawn(200, 3)
    for column in range(3):
        expected = roc_auc_score(targets[:, column], scores[:, column])
        assert auroc(targets[:, column], scores[:, column]) == pytest.approx(expected, abs=1e-12)


def test_auroc_by_hand() -> None:
    assert auroc(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auroc(np.array([0, 1.0]), np.array([0.5, 0.5])) == 0.5
    assert auroc(np.array([0, NAN, 1.0]), np.array([0.1, 0.0, 0.2])) == 1.0
    assert np.isnan(auroc(np.array([1.0, 1.0]), np.array([0.1, 0.2])))
    assert np.isnan(auroc(np.array([NAN]), np.array([0.1])))


def test_only_findings_with_enough_positives_are_measured() -> None:
    targets = np.zeros((40, 4), np.float32)
    targets[:15, 0] = targets[:14, 1] = targets[:, 2] = 1
    targets[:15, 3], targets[15:, 3] = 1, NAN
    scores = np.tile(np.linspace(1, 0, 40)[:, None], 4)
    assert measured_findings(targets, ["a", "b", "c", "d"]) == [0]
    intervals = auroc_intervals(targets, scores, ["a", "b", "c", "d"], resamples=20)
    assert set(intervals) == {"a", "macro"}
    assert intervals["a"].value == intervals["macro"].value == 1.0
    assert auroc_intervals(targets[:9], scores[:9], ["a", "b", "c", "d"]) == {}


def test_macro_is_the_mean_and_its_interval_holds_it() -> None:
    targets, scores = drawn(300, 3)
    intervals = auroc_intervals(targets, scores, ["a", "b", "c"], resamples=200)
    values = [intervals[name].value for name in "abc"]
    macro = intervals["macro"]
    assert macro.value == pytest.approx(np.mean(values))
    assert macro.low < macro.value < macro.high
    widths = [intervals[name].high - intervals[name].low for name in "abc"]
    assert macro.high - macro.low < min(widths)
    assert np.isnan(macro_auroc(targets, scores, []))


def test_f1_is_scikit_learn_s() -> None:
    targets, scores = drawn(200, 3)
    called = scores > 0.5
    for average, ours in (("macro", f1_macro), ("micro", f1_micro)):
        expected = f1_score(targets, called, average=average)
        assert ours(targets, called) == pytest.approx(expected, abs=1e-12)


def test_f1_leaves_out_the_unknown_and_forgives_the_empty() -> None:
    targets = np.array([[1, 0], [NAN, 0], [0, 0]])
    called = np.array([[True, False], [True, False], [True, False]])
    assert f1_micro(targets, called) == pytest.approx(2 / 3)
    assert f1_macro(targets, called) == pytest.approx(1 / 3)


def test_the_threshold_of_the_best_f1() -> None:
    targets, scores = drawn(100, 1)
    truth, values = targets[:, 0], scores[:, 0]
    threshold = best_f1_threshold(truth, values)
    best = max(f1_score(truth, values >= t) for t in np.unique(values))
    assert f1_score(truth, values >= threshold) == pytest.approx(best)
    assert best_f1_threshold(np.zeros(3), np.arange(3.0)) == 0.5
    assert best_f1_threshold(np.array([NAN]), np.array([0.3])) == 0.5
