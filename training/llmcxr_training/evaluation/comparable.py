"""Figures of two finished evaluations as functions of whose answer is taken for each case."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.evaluation.cases import Cases
from llmcxr_training.evaluation.finding_answers import Table
from llmcxr_training.metrics.calibration import brier_score
from llmcxr_training.metrics.classification import f1_macro, f1_micro, macro_auroc
from llmcxr_training.metrics.distribution import frechet_distance, kernel_distance, overlap
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap, jackknife
from llmcxr_training.metrics.permutation import permutation_p
from llmcxr_training.metrics.perplexity import BLOCK
from llmcxr_training.metrics.text import bleu_counts, bleu_of, label_table, rouge_l

Rows = NDArray[Any]
"""(N, ...), one row a case."""


@dataclass(frozen=True)
class Comparable:
    """One figure of two systems on the same cases.

    Attributes:
        key: as in `metrics.json`.
        groups: the patient of each case.
        first: the first system's rows.
        second: the second's.
        statistic: the figure of some cases' rows, and which cases they are.
        more_is_better: or less.
        repeats: whether cases may be drawn twice; else the interval is a jackknife's.
    """

    key: str
    groups: Sequence[Hashable]
    first: Rows
    second: Rows
    statistic: Callable[[Rows, Indices], float]
    more_is_better: bool = True
    repeats: bool = True

    def values(self) -> tuple[float, float]:
        """The figure of both systems, on the cases that are compared."""
        everything = np.arange(len(self.groups))
        return self.statistic(self.first, everything), self.statistic(self.second, everything)

    def difference(self, *, resamples: int, folds: int) -> Interval:
        """Second minus first, with a paired interval."""

        def statistic(rows: Indices) -> float:
            return self.statistic(self.second[rows], rows) - self.statistic(self.first[rows], rows)

        count = len(self.groups)
        if self.repeats:
            return bootstrap(statistic, count, groups=self.groups, resamples=resamples)
        return jackknife(statistic, count, groups=self.groups, folds=folds)

    def p_value(self, *, permutations: int) -> float:
        """Of the difference, by exchanging answers."""
        everything = np.arange(len(self.groups))

        def difference(exchanged: NDArray[np.bool_]) -> float:
            mask = exchanged.reshape(-1, *[1] * (self.first.ndim - 1))
            first = np.where(mask, self.second, self.first)
            second = np.where(mask, self.first, self.second)
            return self.statistic(second, everything) - self.statistic(first, everything)

        return permutation_p(difference, self.groups, permutations=permutations)


def report_comparables(first: Cases, second: Cases, patients: Sequence[str]) -> list[Comparable]:
    """Figures of written reports; none where one of the two wrote none."""
    ours, theirs = (_texts(cases, "written") for cases in (first, second))
    real = _texts(first, "real")
    if not ours or not theirs:
        return []
    found = []
    for end, policy in (("", False), ("_uncertain_positive", True)):
        truth = label_table(real, uncertain_is_positive=policy)
        tables = [label_table(t, uncertain_is_positive=policy) for t in (ours, theirs)]
        present = np.flatnonzero(truth.any(axis=0))
        found += [
            Comparable(f"report.label_micro_f1{end}", patients, *tables, _f1(truth, f1_micro)),
            Comparable(
                f"report.label_macro_f1_present{end}",
                patients,
                *(table[:, present] for table in tables),
                _f1(truth[:, present], f1_macro),
            ),
        ]
    counts = [bleu_counts(texts, real) for texts in (ours, theirs)]
    overlaps = [rouge_l(texts, real) for texts in (ours, theirs)]
    return [
        *found,
        Comparable("report.bleu4", patients, *counts, lambda rows, _: bleu_of(rows)),
        Comparable("report.rouge_l", patients, *overlaps, _mean),
    ]


def finding_comparables(
    first: Cases, second: Cases, patients: Sequence[str], least_positives: int
) -> list[Comparable]:
    """Figures of yes / no answers; none where the two were not taught the same findings."""
    tables = [cases.arrays.get("findings.probabilities") for cases in (first, second)]
    targets = first.arrays.get("findings.targets")
    if targets is None or any(t is None or t.shape != targets.shape for t in tables):
        return []
    columns = np.flatnonzero((targets == 1).sum(axis=0) >= least_positives)
    if not len(columns):
        return []

    def brier(rows: Table, which: Indices) -> float:
        return float(np.mean([brier_score(targets[which, c], rows[:, c]) for c in columns]))

    return [
        Comparable("findings.auroc.macro", patients, *tables, _auroc(targets, columns)),
        Comparable("findings.brier.macro", patients, *tables, brier, more_is_better=False),
    ]


def vqgan_comparables(
    first: Cases,
    second: Cases,
    patients: Sequence[str],
    least_positives: int,
    *,
    same_judge: bool,
) -> list[Comparable]:
    """Figures of reconstructions."""
    found = []
    for name in ("vqgan.psnr_db", "vqgan.ms_ssim"):
        rows = [cases.arrays.get(name) for cases in (first, second)]
        if all(values is not None for values in rows):
            found.append(Comparable(name, patients, *rows, _mean))
    targets = first.arrays.get("judge.targets")
    if same_judge and targets is not None:
        columns = np.flatnonzero((targets == 1).sum(axis=0) >= least_positives)
        scores = [cases.arrays["judge.reconstructed"] for cases in (first, second)]
        if len(columns):
            key = "vqgan.judge_auroc_reconstructed"
            found.append(Comparable(key, patients, *scores, _auroc(targets, columns)))
    return found


def image_comparables(
    first: Cases, second: Cases, patients: Sequence[str], least_positives: int, neighbours: int
) -> list[Comparable]:
    """Figures of generated images in one judge's eyes, where both drew whole ones."""
    asked = [cases.arrays.get("image.asked") for cases in (first, second)]
    if asked[0] is None or asked[1] is None:
        return []
    common = np.intersect1d(asked[0], asked[1])
    if len(common) < 2:
        return []
    where = [np.searchsorted(rows, common) for rows in asked]
    who = [patients[row] for row in common]

    def both(name: str) -> list[Rows]:
        return [c.arrays[name][rows] for c, rows in zip((first, second), where, strict=True)]

    drawn = both("image.generated_features")
    real = first.arrays["image.real_features"][where[0]]
    targets = first.arrays["image.targets"][where[0]]
    found = [
        Comparable(
            "image.fd_judge",
            who,
            *drawn,
            lambda rows, which: frechet_distance(real[which], rows),
            more_is_better=False,
            repeats=False,
        ),
        Comparable(
            "image.kid_judge",
            who,
            *drawn,
            lambda rows, which: kernel_distance(real[which], rows),
            more_is_better=False,
            repeats=False,
        ),
    ]
    if len(common) > 2 * neighbours:
        found += [_overlap(kind, who, drawn, real, neighbours) for kind in ("precision", "recall")]
    columns = np.flatnonzero((targets == 1).sum(axis=0) >= least_positives)
    if len(columns):
        scores = both("image.generated_scores")
        found.append(Comparable("image.finding_auroc", who, *scores, _auroc(targets, columns)))
    return found


def language_comparables(first: Cases, second: Cases, *, same_text: bool) -> list[Comparable]:
    """Perplexity by blocks of neighbouring tokens, and instructions one by one."""
    found = []
    losses = [cases.arrays.get("language.nll") for cases in (first, second)]
    if same_text and losses[0] is not None and losses[1] is not None:
        # A last, shorter block would count as much as a whole one.
        whole = len(losses[0]) // BLOCK * BLOCK
        blocks = [values[:whole].reshape(-1, BLOCK) for values in losses]
        if whole and len(losses[0]) == len(losses[1]):
            found.append(
                Comparable(
                    "language.wikitext2_ppl_after",
                    range(len(blocks[0])),
                    *blocks,
                    lambda rows, _: float(np.exp(rows.mean())),
                    more_is_better=False,
                )
            )
    passed = [cases.arrays.get("instructions.passed") for cases in (first, second)]
    if all(p is not None for p in passed) and len(passed[0]) == len(passed[1]):
        tasks = range(len(passed[0]))
        found.append(Comparable("instructions.passed", tasks, *passed, _mean))
    return found


def _texts(cases: Cases, name: str) -> list[str]:
    return [record[name] for record in cases.records if name in record]


def _mean(rows: Rows, _which: Indices) -> float:
    return float(rows.mean())


def _f1(
    truth: NDArray[np.bool_], f1: Callable[[Table, NDArray[np.bool_]], float]
) -> Callable[[Rows, Indices], float]:
    targets = truth.astype(np.float32)
    return lambda rows, which: f1(targets[which], rows)


def _auroc(targets: Table, columns: Sequence[int]) -> Callable[[Rows, Indices], float]:
    return lambda rows, which: macro_auroc(targets[which], rows, columns)


def _overlap(
    kind: str, who: Sequence[str], drawn: Sequence[Rows], real: Rows, neighbours: int
) -> Comparable:
    def share(rows: Rows, which: Indices) -> float:
        return float(getattr(overlap(real[which], rows, neighbours=neighbours), kind))

    return Comparable(f"image.{kind}", who, *drawn, share, repeats=False)
