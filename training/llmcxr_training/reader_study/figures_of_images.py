"""Can readers tell generated pictures from real ones, and what looked wrong?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.metrics.classification import auroc
from llmcxr_training.reader_study.answers import GENERATED_FROM, PROBLEMS
from llmcxr_training.reader_study.rated import Rated, judgement, of_finished, problem
from llmcxr_training.reader_study.statistics import (
    Table,
    chance,
    crossed,
    mean_of_readers,
    proportion,
)

Truths = NDArray[np.bool_]
"""(cases,), whether each was generated."""


def image_figures(rated: Rated, resamples: int) -> dict[str, Any]:
    """Discrimination by all readers and by each, and problems by what the picture was."""
    cases = rated.cases("image")
    truth = np.array([bool(rated.truths[case].generated) for case in cases], bool)
    table = rated.table(cases, judgement)
    return {
        "all": _of_all(of_finished(table), truth, resamples),
        "by_reader": {
            reader: _of_one(row, truth) for reader, row in zip(rated.readers, table, strict=True)
        },
        "problems": {
            name: _by_truth(of_finished(rated.table(cases, problem(name))), truth, resamples)
            for name in PROBLEMS
        },
    }


def _of_all(table: Table, truth: Truths, resamples: int) -> dict[str, Any]:
    called = np.where(np.isfinite(table), table >= GENERATED_FROM, np.nan)
    right = np.where(np.isfinite(table), called == truth, np.nan)

    def mean(drawn: Table, _: NDArray[np.intp]) -> float:
        return mean_of_readers(drawn)

    def area(drawn: Table, columns: NDArray[np.intp]) -> float:
        return mean_of_readers(np.array([[_area(row, truth[columns])] for row in drawn]))

    figures = {
        "accuracy": crossed(right, mean, resamples=resamples),
        "auc": crossed(table, area, resamples=resamples),
        "generated_called_generated": crossed(called[:, truth], mean, resamples=resamples),
        "real_called_generated": crossed(called[:, ~truth], mean, resamples=resamples),
    }
    found: dict[str, Any] = {name: interval.to_dict() for name, interval in figures.items()}
    return found | {"readers": len(table)}


def _of_one(row: NDArray[np.float64], truth: Truths) -> dict[str, Any]:
    known = np.isfinite(row)
    called, real = row[known] >= GENERATED_FROM, truth[known]
    right = int((called == real).sum())
    return {
        "accuracy": proportion(right, int(known.sum())).to_dict(),
        "p_against_guessing": chance(right, int(known.sum())),
        "auc": _area(row, truth),
        "generated_called_generated": proportion(
            int((called & real).sum()), int(real.sum())
        ).to_dict(),
        "real_called_generated": proportion(
            int((called & ~real).sum()), int((~real).sum())
        ).to_dict(),
    }


def _area(row: NDArray[np.float64], truth: Truths) -> float:
    """Area under the ROC curve of the four-point scale."""
    known = np.isfinite(row)
    return auroc(truth[known].astype(np.float64), row[known])


def _by_truth(table: Table, truth: Truths, resamples: int) -> dict[str, Any]:
    def mean(drawn: Table, _: NDArray[np.intp]) -> float:
        return mean_of_readers(drawn)

    return {
        name: crossed(table[:, rows], mean, resamples=resamples).to_dict()
        for name, rows in (("real", ~truth), ("generated", truth))
    }
