"""Probabilities of yes, what the labels say, and how both agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmcxr_models.report import Report
from llmcxr_training.data import Study
from llmcxr_training.evaluation.figures import Figures, Resampling
from llmcxr_training.evaluation.finding_answers import (
    FindingAnswers,
    curves,
    finding_answer_measures,
    label_targets,
    probabilities,
)

NAMES = ("normal", "cardiomegaly")
HOW = Resampling(resamples=50, folds=5)


def study(*labels: str) -> Study:
    return Study("1", Path("x.png"), "val", "PA", "p", Report("", ""), labels=labels)


def test_probabilities_of_two_answers() -> None:
    found = probabilities([(0.0, 0.0), (np.log(3.0), 0.0), (-700.0, 0.0), (-1.0, -1.0)], 2)
    assert found.tolist() == [pytest.approx([0.5, 0.75]), pytest.approx([0.0, 0.5])]
    # Only the difference counts.
    np.testing.assert_allclose(probabilities([(-5.0, -7.0)], 1), probabilities([(2.0, 0.0)], 1))


def test_what_the_labels_say() -> None:
    table = label_targets(
        [study("normal"), study("cardiomegaly/mild"), study("no indexing"), study()], NAMES
    )
    assert table[:2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert np.isnan(table[2:]).all()


def answers(stated: np.ndarray) -> FindingAnswers:
    heart = np.array([1.0] * 10 + [0.0] * 30)
    return FindingAnswers(
        NAMES, stated, np.stack([1 - heart, heart], axis=1), np.array([0.75, 0.25])
    )


def test_answers_that_know_everything() -> None:
    right = answers(np.zeros((40, 2))).targets
    figures = Figures()
    finding_answer_measures(figures, answers(right), list(range(40)), HOW, 5)
    values = {key: interval.value for key, interval in figures.values.items()}
    assert values["findings.auroc.macro"] == values["findings.auprc.cardiomegaly"] == 1.0
    assert values["findings.brier.macro"] == values["findings.ece.macro"] == 0.0
    # The prevalence as everybody's answer: its AUPRC is the prevalence.
    assert values["findings.auprc.prevalence.cardiomegaly"] == pytest.approx(0.25)
    assert values["findings.brier.prevalence.cardiomegaly"] == pytest.approx(0.25 * 0.75)


def test_answers_that_know_nothing() -> None:
    figures = Figures()
    finding_answer_measures(figures, answers(np.full((40, 2), 0.9)), list(range(40)), HOW, 5)
    assert figures.values["findings.auroc.macro"].value == 0.5
    assert figures.values["findings.ece.cardiomegaly"].value == pytest.approx(0.65)
    assert figures.values["findings.brier.cardiomegaly"].value > 0.5


def test_rare_findings_are_left_out() -> None:
    figures = Figures()
    finding_answer_measures(figures, answers(np.full((40, 2), 0.9)), list(range(40)), HOW, 11)
    assert "findings.auroc.cardiomegaly" not in figures.values
    assert "findings.auroc.normal" in figures.values
    finding_answer_measures(figures, answers(np.full((40, 2), 0.9)), list(range(40)), HOW, 50)
    assert "findings.auroc.macro" in figures.not_measured


def test_curves_for_plots() -> None:
    found = curves(answers(np.linspace(0, 0.99, 80).reshape(40, 2)), 5)
    assert list(found) == list(NAMES)
    curve = found["cardiomegaly"]
    assert (curve["positives"], curve["known"]) == (10, 40)
    assert curve["roc"]["true_positive_rate"][-1] == 1.0
    assert sum(curve["reliability"]["counts"]) == 40
