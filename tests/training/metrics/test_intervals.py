"""Intervals whose width is known from theory."""

from __future__ import annotations

import numpy as np
import pytest

from llmcxr_training.metrics.intervals import Interval, bootstrap, bootstrap_mean, jackknife

VALUES = np.random.default_rng(0).normal(3.0, 2.0, 400)
STANDARD_ERROR = VALUES.std() / 20


@pytest.mark.parametrize("method", ["bootstrap", "jackknife"])
def test_of_a_mean_is_two_standard_errors_to_each_side(method: str) -> None:
    if method == "bootstrap":
        interval = bootstrap_mean(VALUES)
    else:
        interval = jackknife(lambda rows: float(VALUES[rows].mean()), 400, folds=400)
    assert interval.value == pytest.approx(VALUES.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * STANDARD_ERROR, rel=0.1)
    assert interval.low < interval.value < interval.high
    assert interval.n == 400


def test_twenty_folds_are_about_as_good() -> None:
    interval = jackknife(lambda rows: float(VALUES[rows].mean()), 400)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * STANDARD_ERROR, rel=0.35)


def test_rows_of_a_patient_are_drawn_together() -> None:
    twice, patients = np.repeat(VALUES, 2), np.repeat(np.arange(400), 2).tolist()
    alone, together = bootstrap_mean(twice), bootstrap_mean(twice, groups=patients)
    width = bootstrap_mean(VALUES).high - bootstrap_mean(VALUES).low
    assert together.high - together.low == pytest.approx(width, rel=0.01)
    assert alone.high - alone.low < 0.8 * width
    left_out = jackknife(lambda rows: float(len(rows)), 800, groups=patients, folds=400)
    assert left_out == Interval(800.0, 800.0, 800.0, 800)


def test_it_repeats_itself_and_leaves_out_what_has_no_value() -> None:
    assert bootstrap_mean(VALUES, seed=1) == bootstrap_mean(VALUES, seed=1)
    assert bootstrap_mean(VALUES, seed=1) != bootstrap_mean(VALUES, seed=2)

    def only_with_row_0(rows: np.ndarray) -> float:
        return 1.0 if 0 in rows else float("nan")

    assert bootstrap(only_with_row_0, 4, resamples=50) == Interval(1.0, 1.0, 1.0, 4)
    assert np.isnan(bootstrap(lambda rows: float("nan"), 4, resamples=5).low)
    assert bootstrap_mean([1.0]).to_dict() == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1}


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="group"):
        bootstrap_mean([1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="group"):
        jackknife(lambda rows: 0.0, 2, groups=["a"])
    with pytest.raises(ValueError, match="two groups"):
        jackknife(lambda rows: 0.0, 2, groups=["a", "a"])
