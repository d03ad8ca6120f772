"""p-values of systems that differ, and of systems that do not."""

from __future__ import annotations

import numpy as np
import pytest

from llmcxr_training.metrics.permutation import holm, permutation_p


def p_of(first: np.ndarray, second: np.ndarray, groups: list[int]) -> float:
    def difference(exchanged: np.ndarray) -> float:
        sign = np.where(exchanged, -1.0, 1.0)
        return float((sign * (second - first)).mean())

    return permutation_p(difference, groups, permutations=499)


def test_a_clear_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=60)
    assert p_of(first, first + 1.0, list(range(60))) == pytest.approx(1 / 500)


def test_no_difference_is_none() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=60)
    assert p_of(first, first, list(range(60))) == 1.0
    assert p_of(first, rng.permutation(first), list(range(60))) > 0.1


def test_patients_are_exchanged_whole() -> None:
    """Sixty rows of two patients are two cases: no p-value below a half."""
    first = np.zeros(60)
    assert p_of(first, first + 1.0, [0] * 30 + [1] * 30) > 0.3


def test_p_values_are_even_under_the_null() -> None:
    rng = np.random.default_rng(2)
    found = [p_of(rng.normal(size=30), rng.normal(size=30), list(range(30))) for _ in range(60)]
    assert 0.3 < np.mean(found) < 0.7


def test_holm() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9})
    assert list(found) == ["a", "b", "c", "d"]


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="rows"):
        permutation_p(lambda _: 0.0, [])
