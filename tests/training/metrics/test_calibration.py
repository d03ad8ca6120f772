"""Average precision, Brier score and calibration error against well-known implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from llmcxr_training.metrics.calibration import (
    average_precision,
    brier_score,
    expected_calibration_error,
    reliability,
)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Targets, and scores with many ties."""
    rng = np.random.default_rng(0)
    targets = (rng.random(300) < 0.2).astype(float)
    scores = np.clip(0.3 * targets + rng.random(300), 0, 0.999)
    return targets, np.round(scores, 1)


def test_as_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    targets, scores = drawn
    assert average_precision(targets, scores) == pytest.approx(
        average_precision_score(targets, scores)
    )
    assert brier_score(targets, scores) == pytest.approx(brier_score_loss(targets, scores))


def test_as_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    targets, stated = (rng.random(500) < 0.4).astype(float), rng.random(500)
    theirs = binary_calibration_error(
        torch.from_numpy(stated), torch.from_numpy(targets).long(), n_bins=10, norm="l1"
    )
    assert expected_calibration_error(targets, stated) == pytest.approx(float(theirs), abs=1e-5)


def test_extremes() -> None:
    targets = np.array([1.0, 1.0, 0.0, 0.0])
    assert average_precision(targets, np.array([0.9, 0.8, 0.2, 0.1])) == 1.0
    # A score that knows nothing has the share of positives.
    assert average_precision(targets, np.zeros(4)) == 0.5
    assert np.isnan(average_precision(np.zeros(4), np.zeros(4)))
    assert brier_score(targets, targets) == 0.0
    assert expected_calibration_error(targets, targets) == 0.0
    assert expected_calibration_error(targets, 1 - targets) == 1.0


def test_unknown_targets_are_left_out() -> None:
    targets, stated = np.array([1.0, np.nan, 0.0]), np.array([0.8, 0.1, 0.3])
    assert brier_score(targets, stated) == pytest.approx((0.04 + 0.09) / 2)
    assert average_precision(targets, stated) == 1.0
    curve = reliability(targets, stated)
    assert curve.counts.tolist() == [1, 1]
    assert curve.stated.tolist() == pytest.approx([0.3, 0.8])
    assert curve.observed.tolist() == [0.0, 1.0]
    nothing = np.array([np.nan])
    assert np.isnan(brier_score(nothing, nothing))
    assert np.isnan(expected_calibration_error(nothing, np.array([0.5])))
