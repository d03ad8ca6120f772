"""`findings.*` of an evaluation: questions with yes or no about every measured radiograph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmcxr_models.observations import observable_findings
from llmcxr_training.evaluation.answers import AnswerStore, Generator, LogProbabilities
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.finding_answers import (
    FindingAnswers,
    curves,
    finding_answer_measures,
    finding_questions,
    label_targets,
    probabilities,
)
from llmcxr_training.evaluation.pictures import Reconstructions


def ask_findings(
    context: Context,
    material: Material,
    images: Reconstructions,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[LogProbabilities]:
    """Log-probabilities of yes and no; none where the checkpoint was taught no finding."""
    findings = observable_findings(context.checkpoint.manifest.findings)
    codes = images.codes[material.rows]
    asked = finding_questions(context.checkpoint.load_prompts(), codes, findings)
    return store.log_probabilities(asked, generator, what="findings")


def finding_part(
    context: Context, material: Material, answers: list[LogProbabilities]
) -> FindingAnswers | None:
    """Add figures, curves and cases of the answers."""
    names = context.checkpoint.manifest.findings
    if not names:
        context.figures.skip("findings.auroc.macro", "the checkpoint was taught no finding")
        return None
    train = label_targets(material.cohort.train.studies, names)
    known = np.isfinite(train)
    prevalence = np.where(known, train, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    found = FindingAnswers(
        names,
        probabilities(answers, len(names)),
        label_targets(material.studies, names),
        prevalence,
    )
    finding_answer_measures(
        context.figures, found, material.patients, context.resampling, context.least_positives
    )
    context.tables["findings"] = curves(found, context.least_positives)
    context.cases.note_table("probabilities", material.rows, names, found.probabilities)
    context.cases.note_table("labels", material.rows, names, found.targets)
    context.cases.arrays["findings.probabilities"] = found.probabilities
    context.cases.arrays["findings.targets"] = found.targets
    return found
