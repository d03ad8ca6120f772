"""Distributions whose distance and overlap are known."""

from __future__ import annotations

import numpy as np
import pytest

from llmcxr_training.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    nearest,
    overlap,
)
from llmcxr_training.metrics.intervals import jackknife

RNG = np.random.default_rng(0)


def normal(n: int, d: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return RNG.normal(mean, scale, (n, d))


def test_frechet_distance_of_a_shift_and_of_a_scale() -> None:
    features = normal(500, 6)
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-9)
    shift = np.array([3.0, 4, 0, 0, 0, 0])
    assert frechet_distance(features, features + shift) == pytest.approx(25.0)
    # Covariances C and 4 C: tr(C + 4 C - 2 * 2 C) = tr C.
    scaled = (features - features.mean(axis=0)) * 2 + features.mean(axis=0)
    trace = np.trace(np.cov(features, rowvar=False))
    assert frechet_distance(features, scaled) == pytest.approx(trace)


def test_frechet_distance_of_known_normals() -> None:
    first, second = normal(40_000, 2), normal(40_000, 2, mean=1.0, scale=3.0)
    # |1, 1|^2 + 2 (1 + 9 - 2 * 3)
    assert frechet_distance(first, second) == pytest.approx(10.0, rel=0.03)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second))


def test_frechet_distance_is_safe_for_few_samples() -> None:
    few, others = normal(5, 64).astype(np.float32), normal(7, 64).astype(np.float32)
    distance = frechet_distance(few, others)
    assert np.isfinite(distance)
    assert distance > 0
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-4)
    constant = np.ones((3, 64))
    assert frechet_distance(constant, constant) == 0.0


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    same = [kernel_distance(normal(50, 8), normal(50, 8)) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(40)
    assert kernel_distance(normal(50, 8), normal(50, 8, mean=1.0)) > 5 * np.std(same)


def test_one_distribution_overlaps_and_distant_ones_do_not() -> None:
    real = normal(400, 4)
    same = overlap(real, normal(400, 4))
    assert min(same.precision, same.recall, same.coverage) > 0.9
    assert same.density == pytest.approx(1.0, abs=0.15)
    far = overlap(real, normal(400, 4, mean=50.0))
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_a_collapsed_generator_is_precise_and_recalls_nothing() -> None:
    real = normal(400, 4)
    collapsed = overlap(real, normal(400, 4, scale=0.05))
    assert collapsed.precision == 1.0
    assert collapsed.recall < 0.02
    assert collapsed.coverage < 0.3


def test_overlap_by_hand() -> None:
    real = np.array([[0.0], [1.0], [10.0]])
    generated = np.array([[0.4], [0.6], [30.0]])
    # Real balls (k = 1): 0 +- 1, 1 +- 1, 10 +- 9. Generated: 0.4 +- 0.2, 0.6 +- 0.2, 30 +- 29.4.
    found = overlap(real, generated, neighbours=1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx(4 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.coverage == pytest.approx(2 / 3)


def test_nearest_row() -> None:
    among = np.array([[1e6, 0.0], [1e6, 1.0], [1e6, 5.0]])
    assert nearest(np.array([[1e6, 0.9], [1e6, 4.0]]), among).tolist() == [1, 2]


def test_a_jackknife_holds_the_distance_of_a_whole_population() -> None:
    first, second = normal(300, 3), normal(300, 3, mean=1.0)
    found = jackknife(lambda rows: frechet_distance(first[rows], second[rows]), 300)
    assert found.low < 3.0 < found.high


def test_what_cannot_be_compared_is_refused() -> None:
    good = normal(8, 3)
    for bad in (normal(8, 2), good[:1], good[0], np.full((8, 3), np.nan)):
        with pytest.raises(ValueError, match=r"features|images"):
            frechet_distance(good, bad)
    with pytest.raises(ValueError, match="neighbours"):
        overlap(good, good[:5])
