"""The figures of a grid: each a function of cases, so that cells are averaged and paired.

A value is the mean over a combination's seeds. Its interval, and that of its difference to the
reference, redraw patients and keep the seeds: the same patients for all cells at once. How much
one training run differs from the next is what the seeds show, and no interval here knows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.ablation.settings import Measure
from llmcxr_training.metrics.classification import f1_micro, macro_auroc, measured_findings
from llmcxr_training.metrics.distribution import frechet_distance
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap, jackknife

Arrays = Mapping[str, NDArray[Any]]
Statistic = Callable[[Arrays, Indices], float]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: in JSON.
        title: for people, with its unit.
        lower_is_better: which way is up.
        table: the cases that it is computed from.
        statistic: of one cell's cases and some rows of the table.
        repeats: whether rows may repeat: a bootstrap; else a jackknife.
    """

    key: str
    title: str
    lower_is_better: bool
    table: str
    statistic: Statistic
    repeats: bool = True


def figures_of(cases: Arrays, measure: Measure) -> list[Figure]:
    """Those that a grid's cases allow; `cases` are of any of its cells."""
    found = [
        Figure("image_loss", "image loss, nats a token", True, "loss", _per_token("image")),
        Figure("image_nats", "nats an image", True, "loss", _mean("loss.image_nll")),
        Figure("text_loss", "report loss, nats a token", True, "loss", _per_token("text")),
        Figure("perplexity", "perplexity of plain text", True, "language", _perplexity),
        Figure("perplexity_ratio", "perplexity over its own base's", True, "language", _ratio),
    ]
    if columns := _columns(cases, "questions", measure):
        auroc = _auroc("questions", columns)
        found.append(Figure("question_auroc", "AUROC of yes / no", False, "questions", auroc))
    if "reports.truth" in cases:
        found.append(Figure("label_f1", "label F1 of reports", False, "reports", _label_f1))
    if "images.features" in cases:
        fd = Figure("image_fd", "FD of images", True, "images", _distance, repeats=False)
        found.append(fd)
        if columns := _columns(cases, "images", measure):
            auroc = _auroc("images", columns)
            title = "AUROC of images' findings"
            found.append(Figure("finding_auroc", title, False, "images", auroc))
    return found


@dataclass(frozen=True)
class Measured:
    """A figure of one combination.

    Attributes:
        interval: of the mean over seeds.
        seeds: its value with each seed.
    """

    interval: Interval
    seeds: tuple[float, ...]


def value(figure: Figure, cells: Sequence[Arrays], measure: Measure) -> Measured:
    """Of the cells of one combination, one for each seed."""
    return _measured(figure, cells, lambda rows: _over_seeds(figure, cells, rows), measure)


def difference(
    figure: Figure, cells: Sequence[Arrays], reference: Sequence[Arrays], measure: Measure
) -> Measured:
    """Of one combination to another, seed by seed and patient by patient."""

    def statistic(rows: Indices) -> NDArray[np.float64]:
        return _over_seeds(figure, cells, rows) - _over_seeds(figure, reference, rows)

    return _measured(figure, cells, statistic, measure)


def _measured(
    figure: Figure,
    cells: Sequence[Arrays],
    statistic: Callable[[Indices], NDArray[np.float64]],
    measure: Measure,
) -> Measured:
    patients = cells[0].get(f"{figure.table}.patients")
    rows = len(_first_column(cells[0], figure.table))
    groups = None if patients is None else patients.tolist()

    def mean(some: Indices) -> float:
        return float(statistic(some).mean())

    if figure.repeats:
        interval = bootstrap(mean, rows, groups=groups, resamples=measure.resamples)
    else:
        interval = jackknife(mean, rows, groups=groups, folds=measure.folds)
    return Measured(interval, tuple(statistic(np.arange(rows)).tolist()))


def _over_seeds(figure: Figure, cells: Sequence[Arrays], rows: Indices) -> NDArray[np.float64]:
    return np.array([figure.statistic(arrays, rows) for arrays in cells])


def _first_column(cases: Arrays, table: str) -> NDArray[Any]:
    return next(values for name, values in cases.items() if name.startswith(f"{table}."))


def _per_token(kind: str) -> Statistic:
    def statistic(cases: Arrays, rows: Indices) -> float:
        nll, tokens = cases[f"loss.{kind}_nll"], cases[f"loss.{kind}_tokens"]
        return float(nll[rows].sum() / tokens[rows].sum())

    return statistic


def _mean(column: str) -> Statistic:
    return lambda cases, rows: float(cases[column][rows].mean())


def _perplexity(cases: Arrays, rows: Indices) -> float:
    tokens = cases["language.tokens"][rows].sum()
    return math.exp(cases["language.nll"][rows].sum() / tokens)


def _ratio(cases: Arrays, rows: Indices) -> float:
    more = cases["language.nll"] - cases["language.before"]
    return math.exp(more[rows].sum() / cases["language.tokens"][rows].sum())


def _columns(cases: Arrays, table: str, measure: Measure) -> list[int]:
    targets = cases.get(f"{table}.targets")
    if targets is None:
        return []
    return measured_findings(targets, range(targets.shape[1]), measure.least_positives)


def _auroc(table: str, columns: list[int]) -> Statistic:
    def statistic(cases: Arrays, rows: Indices) -> float:
        targets, scores = cases[f"{table}.targets"], cases[f"{table}.scores"]
        return macro_auroc(targets[rows], scores[rows], columns)

    return statistic


def _label_f1(cases: Arrays, rows: Indices) -> float:
    truth = cases["reports.truth"][rows].astype(np.float32)
    return f1_micro(truth, cases["reports.called"][rows])


def _distance(cases: Arrays, rows: Indices) -> float:
    if len(rows) < 2:  # all images of one patient, and that one left out
        return math.nan
    return frechet_distance(cases["images.real_features"][rows], cases["images.features"][rows])
