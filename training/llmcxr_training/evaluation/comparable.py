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
from llmcxr_training.metrics.classification import (
    f1_macro,
    f1_micro,
    macro_auroc,
    measured_findings,
)
from llmcxr_training.metrics.distribution import frechet_distance, kernel_distance, overlap
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap, jackknife
from llmcxr_training.metrics.permutation import permutation_p
from llmcxr_training.metrics.perplexity import BLOCK
from llmcxr_training.metrics.text import bleu_counts, bleu_of, label_table, rouge_l

Rows = NDArray[Any]
"""(N, ...), one row a case."""

Pair = tuple[Rows, Rows]
"""Of the first system and of the second."""


@dataclass(frozen=True)
class Comparable:
    """One figure of two systems on the same cases.

    Attributes:
        key: as in `metrics.json`.
        groups: the patient of each case.
        rows: of the first system and of the second.
        statistic: the figure of some cases' rows, and which cases they are.
        more_is_better: or less.
        repeats: whether cases may be drawn twice; else the interval is a jackknife's.
    """

    key: str
    groups: Sequence[Hashable]
    rows: Pair
    statistic: Callable[[Rows, Indices], float]
    more_is_better: bool = True
    repeats: bool = True

    def values(self) -> tuple[float, float]:
        """The figure of both systems, on the cases that are compared."""
        everything = np.arange(len(self.groups))
        first, second = self.rows
        return self.statistic(first, everything), self.statistic(second, everything)

    def difference(self, *, resamples: int, folds: int) -> Interval:
        """Second minus first, with a paired interval."""
        first, second = self.rows

        def statistic(rows: Indices) -> float:
            return self.statistic(second[rows], rows) - self.statistic(first[rows], rows)

        count = len(self.groups)
        if self.repeats:
            return bootstrap(statistic, count, groups=self.groups, resamples=resamples)
        return jackknife(statistic, count, groups=self.groups, folds=folds)

    def p_value(self, *, permutations: int) -> float:
        """Of the difference, by exchanging answers."""
        everything = np.arange(len(self.groups))
        first, second = self.rows

        def difference(exchanged: NDArray[np.bool_]) -> float:
            mask = exchanged.reshape(-1, *[1] * (first.ndim - 1))
            ours, theirs = np.where(mask, second, first), np.where(mask, first, second)
            return self.statistic(theirs, everything) - self.statistic(ours, everything)

        return permutation_p(difference, self.groups, permutations=permutations)


def report_comparables(first: Cases, second: Cases, patients: Sequence[str]) -> list[Comparable]:
    """Figures of written reports; none where one of the two wrote none."""
    ours, theirs = _texts(first, "written"), _texts(second, "written")
    real = _texts(first, "real")
    if not ours or not theirs:
        return []
    found = []
    for end, policy in (("", False), ("_uncertain_positive", True)):
        truth = label_table(real, uncertain_is_positive=policy)
        a, b = (label_table(t, uncertain_is_positive=policy) for t in (ours, theirs))
        some = np.flatnonzero(truth.any(axis=0))
        micro, macro = _f1(truth, f1_micro), _f1(truth[:, some], f1_macro)
        pair = (a[:, some], b[:, some])
        found += [
            Comparable(f"report.label_micro_f1{end}", patients, (a, b), micro),
            Comparable(f"report.label_macro_f1_present{end}", patients, pair, macro),
        ]
    counts = (bleu_counts(ours, real), bleu_counts(theirs, real))
    overlaps = (rouge_l(ours, real), rouge_l(theirs, real))
    return [
        *found,
        Comparable("report.bleu4", patients, counts, lambda rows, _: bleu_of(rows)),
        Comparable("report.rouge_l", patients, overlaps, _mean),
    ]


def finding_comparables(
    first: Cases, second: Cases, patients: Sequence[str], least_positives: int
) -> list[Comparable]:
    """Figures of yes / no answers; none where the two were not taught the same findings."""
    pair, targets = _pair(first, second, "findings.probabilities"), _targets(first, "findings")
    if pair is None or targets is None:
        return []
    columns = _columns(targets, least_positives)
    if not columns:
        return []

    def brier(rows: Table, which: Indices) -> float:
        return float(np.mean([brier_score(targets[which, c], rows[:, c]) for c in columns]))

    return [
        Comparable("findings.auroc.macro", patients, pair, _auroc(targets, columns)),
        Comparable("findings.brier.macro", patients, pair, brier, more_is_better=False),
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
        if (pair := _pair(first, second, name)) is not None:
            found.append(Comparable(name, patients, pair, _mean))
    pair, targets = _pair(first, second, "judge.reconstructed"), _targets(first, "judge")
    if same_judge and pair is not None and targets is not None:
        columns = _columns(targets, least_positives)
        if columns:
            key = "vqgan.judge_auroc_reconstructed"
            found.append(Comparable(key, patients, pair, _auroc(targets, columns)))
    return found


def image_comparables(
    first: Cases, second: Cases, patients: Sequence[str], least_positives: int, neighbours: int
) -> list[Comparable]:
    """Figures of generated images in one judge's eyes, where both drew whole ones."""
    asked = [cases.arrays.get("image.asked") for cases in (first, second)]
    if asked[0] is None or asked[1] is None:
        return []
    common, here, there = np.intersect1d(asked[0], asked[1], return_indices=True)
    if len(common) < 2:
        return []
    who = [patients[row] for row in common]

    def both(name: str) -> Pair:
        return first.arrays[name][here], second.arrays[name][there]

    drawn = both("image.generated_features")
    real = first.arrays["image.real_features"][here]
    targets = first.arrays["image.targets"][here]
    found = [
        _distance("image.fd_judge", who, drawn, real, frechet_distance),
        _distance("image.kid_judge", who, drawn, real, kernel_distance),
    ]
    if len(common) > 2 * neighbours:
        found += [_overlap(kind, who, drawn, real, neighbours) for kind in ("precision", "recall")]
    if columns := _columns(targets, least_positives):
        scores = both("image.generated_scores")
        found.append(Comparable("image.finding_auroc", who, scores, _auroc(targets, columns)))
    return found


def language_comparables(first: Cases, second: Cases, *, same_text: bool) -> list[Comparable]:
    """Perplexity by blocks of neighbouring tokens, and instructions one by one."""
    found: list[Comparable] = []
    losses = _pair(first, second, "language.nll") if same_text else None
    # A last, shorter block would count as much as a whole one.
    whole = 0 if losses is None else len(losses[0]) // BLOCK * BLOCK
    if losses is not None and whole:
        ours, theirs = (values[:whole].reshape(-1, BLOCK) for values in losses)
        found.append(
            Comparable(
                "language.wikitext2_ppl_after",
                range(len(ours)),
                (ours, theirs),
                lambda rows, _: float(np.exp(rows.mean())),
                more_is_better=False,
            )
        )
    passed = _pair(first, second, "instructions.passed")
    if passed is not None:
        found.append(Comparable("instructions.passed", range(len(passed[0])), passed, _mean))
    return found


def _pair(first: Cases, second: Cases, name: str) -> Pair | None:
    """An array of both; None where one has none, or another shape."""
    ours, theirs = first.arrays.get(name), second.arrays.get(name)
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return None
    return ours, theirs


def _targets(cases: Cases, name: str) -> Table | None:
    return cases.arrays.get(f"{name}.targets")


def _columns(targets: Table, least_positives: int) -> list[int]:
    return measured_findings(targets, range(targets.shape[1]), least_positives)


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


def _distance(
    key: str,
    who: Sequence[str],
    drawn: Pair,
    real: Rows,
    measure: Callable[[Rows, Rows], float],
) -> Comparable:
    def statistic(rows: Rows, which: Indices) -> float:
        return measure(real[which], rows)

    return Comparable(key, who, drawn, statistic, more_is_better=False, repeats=False)


def _overlap(kind: str, who: Sequence[str], drawn: Pair, real: Rows, neighbours: int) -> Comparable:
    def share(rows: Rows, which: Indices) -> float:
        return float(getattr(overlap(real[which], rows, neighbours=neighbours), kind))

    return Comparable(f"image.{kind}", who, drawn, share, repeats=False)
