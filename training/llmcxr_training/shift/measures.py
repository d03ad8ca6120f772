"""Figures of one set of pictures, and what each lost against the pictures as they were."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.evaluation.figures import Figures
from llmcxr_training.metrics.classification import macro_auroc, measured_findings
from llmcxr_training.metrics.intervals import Indices, bootstrap, bootstrap_mean
from llmcxr_training.metrics.text import report_statistics
from llmcxr_training.shift.look import Look

Statistic = Callable[[Indices], float]
"""Of rows, with repetitions."""

GATE = ("refused", "doubted", "lateral", "noticed")


@dataclass(frozen=True)
class Measure:
    """One figure of a set.

    Attributes:
        statistic: of its rows.
        patients: of each of those.
    """

    statistic: Statistic
    patients: Sequence[Hashable]


def gate_measures(figures: Figures, name: str, look: Look, resamples: int) -> None:
    """Add the share of pictures that the gate refuses or warns of."""
    for kind in GATE:
        key = f"{name}.{kind}"
        if look.gate is None:
            figures.skip(key, "the checkpoint has no gate")
            continue
        flags = np.asarray(getattr(look.gate, kind), np.float64)
        figures.add(key, bootstrap_mean(flags, groups=look.patients, resamples=resamples))


def paired_measures(
    figures: Figures,
    name: str,
    look: Look,
    before: Look,
    findings: Sequence[str],
    least_positives: int,
    resamples: int,
) -> None:
    """Add each figure of `look`, and its change from `before`, whose rows are the same.

    Args:
        figures: added to, under `NAME.FIGURE` and `NAME.FIGURE.change`.
        name: of the set.
        look: at changed pictures.
        before: at the same ones unchanged.
        findings: the judge's.
        least_positives: a finding with fewer is left out.
        resamples: of intervals; patients are drawn.
    """
    ours, theirs = (_measures(one, findings, least_positives) for one in (look, before))
    for figure, measure in ours.items():
        _add(figures, f"{name}.{figure}", measure, resamples)
        was = theirs[figure].statistic

        def change(
            rows: Indices, now: Statistic = measure.statistic, was: Statistic = was
        ) -> float:
            return now(rows) - was(rows)

        paired = Measure(change, measure.patients)
        _add(figures, f"{name}.{figure}.change", paired, resamples)


def unpaired_measures(
    figures: Figures,
    name: str,
    look: Look,
    before: Look,
    findings: Sequence[str],
    least_positives: int,
    resamples: int,
) -> None:
    """The same where the pictures are other patients': both sets are drawn for themselves."""
    ours, theirs = (_measures(one, findings, least_positives) for one in (look, before))
    for figure, measure in ours.items():
        _add(figures, f"{name}.{figure}", measure, resamples)
        if figure in theirs:
            difference = _difference(measure, theirs[figure])
            _add(figures, f"{name}.{figure}.change", difference, resamples)


def plain_measures(
    figures: Figures,
    name: str,
    look: Look,
    findings: Sequence[str],
    least_positives: int,
    resamples: int,
) -> None:
    """The figures of the pictures as they were."""
    for figure, measure in _measures(look, findings, least_positives).items():
        _add(figures, f"{name}.{figure}", measure, resamples)


def _measures(look: Look, findings: Sequence[str], least_positives: int) -> dict[str, Measure]:
    everybody = look.patients
    part = [everybody[row] for row in look.rows]
    found = {
        kind: Measure(_mean(values), part)
        for kind, values in look.images.figures.items()
        if kind in ("psnr_db", "ms_ssim")
    }
    moved = np.abs(look.images.reconstructed.scores - look.images.real.scores).mean(axis=1)
    found["judge_moved"] = Measure(_mean(moved), part)
    columns = measured_findings(look.targets, findings, least_positives)
    if columns:
        found["judge_auroc"] = Measure(_macro(look.targets, look.scores, columns), everybody)
    targets = look.targets[look.rows]
    if columns := measured_findings(targets, findings, least_positives):
        scores = look.images.reconstructed.scores
        found["judge_auroc_reconstructed"] = Measure(_macro(targets, scores, columns), part)
    if look.finding_scores.size:
        names = [str(column) for column in range(look.finding_scores.shape[1])]
        if columns := measured_findings(look.finding_targets, names, least_positives):
            macro = _macro(look.finding_targets, look.finding_scores, columns)
            found["finding_auroc"] = Measure(macro, part)
    return found | _report_measures(look, part)


def _report_measures(look: Look, patients: Sequence[Hashable]) -> dict[str, Measure]:
    """Of those radiographs of `rows` that came with a report."""
    kept = [i for i, real in enumerate(look.real_reports) if real and look.written]
    if len(kept) < 2:
        return {}
    written, real = ([texts[i] for i in kept] for texts in (look.written, look.real_reports))
    groups = [patients[i] for i in kept]
    statistics = report_statistics(written, real)
    return {
        f"report_{name}": Measure(statistics[name], groups)
        for name in ("label_micro_f1", "rouge_l", "bleu4")
    }


def _mean(values: NDArray[np.floating]) -> Statistic:
    return lambda rows: float(values[rows].mean())


def _macro(
    targets: NDArray[np.floating], scores: NDArray[np.floating], columns: Sequence[int]
) -> Statistic:
    return lambda rows: macro_auroc(targets[rows], scores[rows], columns)


def _difference(one: Measure, other: Measure) -> Measure:
    count = len(one.patients)

    def statistic(rows: Indices) -> float:
        first, second = rows[rows < count], rows[rows >= count] - count
        if not len(first) or not len(second):
            return float("nan")
        return one.statistic(first) - other.statistic(second)

    patients: list[Hashable] = [("one", patient) for patient in one.patients]
    patients += [("other", patient) for patient in other.patients]
    return Measure(statistic, patients)


def _add(figures: Figures, key: str, measure: Measure, resamples: int) -> None:
    patients = measure.patients
    figures.add(
        key, bootstrap(measure.statistic, len(patients), groups=patients, resamples=resamples)
    )
