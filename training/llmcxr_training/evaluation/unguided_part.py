"""`image.finding_auroc_unguided`: what prompts ask for, in images of the model alone.

Beside it stands the guided image of each of the same reports, with the same seed, so what differs
is the guidance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.image_measures import finding_measures
from llmcxr_training.evaluation.image_part import codes_of, prompt_targets
from llmcxr_training.evaluation.prompts import image_questions
from llmcxr_training.evaluation.telling_reports import telling_reports

KEY = "image.finding_auroc_unguided"


@dataclass(frozen=True)
class Pair:
    """Two images of one report.

    Attributes:
        study: whose report it is.
        alone: (image_length) codes of the model alone.
        guided: the same of the image of all other figures.
    """

    study: Study
    alone: NDArray[np.uint16]
    guided: NDArray[np.uint16]


def ask_unguided(
    context: Context,
    material: Material,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[Pair]:
    """Images of some reports without guidance; none where nothing guides."""
    config, guidance = context.config, context.checkpoint.manifest.guidance
    if guidance is None or config.image.guidance == 0.0 or not config.unguided_prompts:
        return []
    findings, count = guidance.findings, config.unguided_prompts
    studies = telling_reports(material.studies, findings, count, config.seed)
    builder, vocabulary = context.checkpoint.load_prompts(), context.checkpoint.manifest.vocabulary
    alone, guided = (
        store.answer(
            image_questions(builder, studies, config, how), generator, what="unguided images"
        )
        for how in (None, guidance)
    )
    found = []
    for study, *answers in zip(studies, alone, guided, strict=True):
        codes = [codes_of(vocabulary, token_ids) for token_ids in answers]
        if all(of is not None for of in codes):
            found.append(Pair(study, *np.array(codes, np.uint16)))
    return found


def unguided_part(context: Context, material: Material, pairs: Sequence[Pair]) -> None:
    """Add the AUROC of both sets in the measuring judge's eyes."""
    if not pairs:
        context.figures.skip(KEY, "no report was drawn without guidance")
        return
    sets = {
        "unguided": np.array([pair.alone for pair in pairs]),
        "guided": np.array([pair.guided for pair in pairs]),
    }
    findings = material.lab.judge.config.findings
    finding_measures(
        context.figures,
        {name: material.lab.decode(codes, f"{name} images") for name, codes in sets.items()},
        prompt_targets([pair.study for pair in pairs], findings),
        findings,
        [pair.study.patient_id for pair in pairs],
        context.resampling,
        context.least_positives,
        key=KEY,
        main="unguided",
    )
