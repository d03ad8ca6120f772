"""Reports that a model must beat."""

from __future__ import annotations

import numpy as np
import pytest

from llmcxr_training.baselines import constant, nearest_neighbour, shuffled
from llmcxr_training.data import DataError


def test_the_most_frequent_report_for_everybody() -> None:
    assert constant(["a", "b", "b", " ", " ", " "], 3) == ["b", "b", "b"]
    assert constant(["a", "b"], 1) == ["a"]
    with pytest.raises(DataError):
        constant(["", " "], 2)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_gets_a_report_of_his_own(seed: int) -> None:
    patients = ["a", "b", "b", "c", "c", "c", "d"]
    reports = [f"{patient}{row}" for row, patient in enumerate(patients)]
    given = shuffled(reports, patients, seed=seed)
    assert sorted(given) == sorted(reports)
    assert all(report[0] != patient for report, patient in zip(given, patients, strict=True))
    assert given == shuffled(reports, patients, seed=seed)


def test_a_shuffle_that_cannot_be_is_refused() -> None:
    assert shuffled([], []) == []
    for reports, patients in ((["x", "y", "z"], ["a", "a", "b"]), (["x", "y"], ["a"])):
        with pytest.raises(DataError):
            shuffled(reports, patients)


def test_the_report_of_the_image_that_looks_alike() -> None:
    # The second feature's scale is a thousand times the first's, the third says nothing.
    train = np.array([[0.0, 0.0, 7], [1.0, 1000.0, 7], [0.0, 1000.0, 7]])
    queries = np.array([[0.1, 900.0, 7], [0.9, 700.0, 99], [0.2, 100.0, 7]])
    assert nearest_neighbour(queries, train, ["x", "y", "z"]) == ["z", "y", "x"]
    with pytest.raises(DataError):
        nearest_neighbour(queries, train, ["x"])
