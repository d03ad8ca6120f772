"""`findings.*`: probabilities of yes against no, for the findings that a checkpoint was taught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from llmcxr_models.observations import ObservableFinding
from llmcxr_models.prompt import PromptBuilder
from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import LogProbabilities, Question
from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.metrics.calibration import (
    average_precision,
    brier_score,
    expected_calibration_error,
    reliability,
)
from llmcxr_training.metrics.classification import MACRO, auroc, measured_findings
from llmcxr_training.metrics.intervals import Indices, bootstrap, jackknife
from llmcxr_training.questions import FINDINGS, NORMAL, can_tell, is_indexed, is_normal, present

Table = NDArray[np.floating]
"""(N, findings)"""

_DIGITS = 4
_MEASURES: dict[str, Callable[[Table, Table], float]] = {
    "auroc": auroc,
    "auprc": average_precision,
    "brier": brier_score,
    "ece": expected_calibration_error,
}


@dataclass(frozen=True)
class FindingAnswers:
    """What a checkpoint says, and what the labels say.

    Attributes:
        names: findings, of `OBSERVABLE_FINDINGS`.
        probabilities: (N, findings), of yes against no.
        targets: (N, findings) 1, 0, or NaN where the labels cannot tell.
        prevalence: (findings,), share of yes in the train split; NaN where nothing is known.
    """

    names: tuple[str, ...]
    probabilities: Table
    targets: Table
    prevalence: NDArray[np.floating]


def finding_questions(
    builder: PromptBuilder, codes: NDArray[np.uint16], findings: Sequence[ObservableFinding]
) -> list[Question]:
    """Each finding of each radiograph, in the service's wording: radiograph by radiograph.

    Args:
        builder: of the checkpoint.
        codes: (N, image_length).
        findings: asked about each of them; questions about one image share its prefix.
    """
    return [
        Question(builder.yes_or_no(image.tolist(), finding.question), 0.0, 1.0, 0)
        for image in codes
        for finding in findings
    ]


def probabilities(answers: Sequence[LogProbabilities], findings: int) -> Table:
    """Of yes against no, (N, findings), from the log-probabilities of both."""
    yes, no = np.array(answers, np.float64).reshape(-1, 2).T
    return np.asarray(1.0 / (1.0 + np.exp(no - yes))).reshape(-1, findings)


def label_targets(studies: Sequence[Study], names: Sequence[str]) -> Table:
    """What the index terms say, (N, findings); NaN where they cannot tell."""
    rows = [[_target(study, name) for name in names] for study in studies]
    return np.array(rows, np.float64).reshape(len(studies), len(names))


def finding_answer_measures(
    figures: Figures,
    answers: FindingAnswers,
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    """Add AUROC, AUPRC, Brier score and calibration error by finding, and their means.

    Beside Brier score and AUPRC stands what the train split's prevalence would reach as the
    answer for everybody; its AUROC is 0.5.

    Args:
        figures: added to.
        answers: what was said and what is so.
        patients: of each radiograph.
        resampling: of intervals.
        least_positives: a finding with fewer is left out.
    """
    targets, stated = answers.targets, answers.probabilities
    columns = measured_findings(targets, answers.names, least_positives)
    if not columns:
        figures.skip("findings.auroc.macro", f"no finding is present {least_positives} times")
        return
    constant = np.broadcast_to(answers.prevalence, stated.shape)
    chosen = {answers.names[c]: [c] for c in columns} | {MACRO: columns}
    for name, some in chosen.items():
        for measure in _MEASURES:
            _add(figures, measure, name, targets, stated, some, patients, resampling)
        for measure in ("auprc", "brier"):
            key = f"prevalence.{name}"
            _add(figures, measure, key, targets, constant, some, patients, resampling)


def curves(answers: FindingAnswers, least_positives: int) -> dict[str, dict[str, Any]]:
    """ROC and reliability curve of each finding with enough positives, for plots."""
    found = {}
    for column in measured_findings(answers.targets, answers.names, least_positives):
        targets, stated = answers.targets[:, column], answers.probabilities[:, column]
        known = np.isfinite(targets)
        false, true, _ = roc_curve(targets[known], stated[known])
        curve = reliability(targets, stated)
        found[answers.names[column]] = {
            "positives": int((targets == 1).sum()),
            "known": int(known.sum()),
            "roc": {"false_positive_rate": _short(false), "true_positive_rate": _short(true)},
            "reliability": {
                "stated": _short(curve.stated),
                "observed": _short(curve.observed),
                "counts": curve.counts.tolist(),
            },
        }
    return found


def _add(
    figures: Figures,
    measure: str,
    name: str,
    targets: Table,
    stated: Table,
    columns: Sequence[int],
    patients: Patients,
    resampling: Resampling,
) -> None:
    def statistic(rows: Indices) -> float:
        of = _MEASURES[measure]
        return float(np.mean([of(targets[rows, c], stated[rows, c]) for c in columns]))

    key = f"findings.{measure}.{slug(name)}"
    if measure == "ece":
        # Repeated images make bins that look less calibrated than they are.
        interval = jackknife(statistic, len(targets), groups=patients, folds=resampling.folds)
        figures.add_share(key, interval)
    else:
        figures.add(
            key,
            bootstrap(statistic, len(targets), groups=patients, resamples=resampling.resamples),
        )


_ASKED = {finding.name: finding for finding in FINDINGS}


def _target(study: Study, name: str) -> float:
    if not is_indexed(study):
        return float("nan")
    if name == NORMAL:
        return float(is_normal(study))
    finding = _ASKED[name]
    return float(present(study, finding)) if can_tell(study, finding) else float("nan")


def _short(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
