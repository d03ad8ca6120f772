"""Do readers prefer the generated report or the reference, and which errors do they see?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.reader_study.answers import ERROR_CATEGORIES
from llmcxr_training.reader_study.rated import Rated, for_first, for_generated, gravity, of_finished
from llmcxr_training.reader_study.statistics import (
    Table,
    chance,
    crossed,
    mean_of_readers,
    proportion,
    signed_rank,
)

NAMES = {
    -2: "reference_much_better",
    -1: "reference_slightly_better",
    0: "equal",
    1: "generated_slightly_better",
    2: "generated_much_better",
}
_SIGNIFICANT = 2


def report_figures(rated: Rated, resamples: int) -> dict[str, Any]:
    """Preference by all readers and by each, and errors by report."""
    cases = rated.cases("report")
    table = rated.table(cases, for_generated)
    return {
        "all": _of_all(of_finished(table), resamples),
        "by_reader": {
            reader: _of_one(row[np.isfinite(row)])
            for reader, row in zip(rated.readers, table, strict=True)
        },
        "position": _position(rated.table(cases, for_first)),
        "errors": {name: _errors(rated, cases, name, resamples) for name in ERROR_CATEGORIES},
    }


def _of_all(table: Table, resamples: int) -> dict[str, Any]:
    at_least = np.where(np.isfinite(table), table >= 0, np.nan)
    better = np.where(np.isfinite(table), table > 0, np.nan)
    rated = table[:, np.isfinite(table).any(axis=0)]
    means = np.nanmean(rated, axis=0) if rated.size else np.empty(0)
    return {
        "readers": len(table),
        "mean": crossed(table, _mean, resamples=resamples).to_dict(),
        "generated_at_least_as_good": crossed(at_least, _mean, resamples=resamples).to_dict(),
        "generated_better": crossed(better, _mean, resamples=resamples).to_dict(),
        "p_signed_rank_of_case_means": signed_rank(means.tolist()),
    }


def _of_one(row: NDArray[np.float64]) -> dict[str, Any]:
    counted = Counter(row.astype(int).tolist())
    wins, losses = int((row > 0).sum()), int((row < 0).sum())
    return {
        "counts": {name: counted[value] for value, name in NAMES.items()},
        "generated_at_least_as_good": proportion(int((row >= 0).sum()), len(row)).to_dict(),
        "p_sign_test": chance(wins, wins + losses),
    }


def _position(table: Table) -> dict[str, Any]:
    """Whether the first report is preferred because it stands first."""
    first, second = int((table > 0).sum()), int((table < 0).sum())
    return {
        "first_preferred": proportion(first, first + second).to_dict(),
        "p_against_one_half": chance(first, first + second),
    }


def _errors(rated: Rated, cases: list[str], category: str, resamples: int) -> dict[str, Any]:
    """Shares of reports with such an error, of any gravity and significant; paired difference."""
    found: dict[str, Any] = {}
    ours, theirs = (
        of_finished(rated.table(cases, gravity(category, of_generated=of))) for of in (True, False)
    )
    for name, least in (("any", 1), ("significant", _SIGNIFICANT)):
        generated, reference = (
            np.where(np.isfinite(t), t >= least, np.nan).astype(np.float64) for t in (ours, theirs)
        )
        tables = {
            "generated": generated,
            "reference": reference,
            "difference": generated - reference,
        }
        found[name] = {
            key: crossed(table, _mean, resamples=resamples).to_dict()
            for key, table in tables.items()
        }
    return found


def _mean(drawn: Table, _: NDArray[np.intp]) -> float:
    return mean_of_readers(drawn)
