"""`image.finding_auroc_unguided`: what prompts ask for, in images of the model alone.

Beside it stands the guided image of each of the same reports, with the same seed, so what differs
is the guidance alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.prompts import image_questions
from llmcxr_training.evaluation.several_images import (
    Drawings,
    compare_findings,
    whole_drawings,
)
from llmcxr_training.evaluation.telling_reports import telling_reports

KEY = "image.finding_auroc_unguided"


def ask_unguided(
    context: Context,
    material: Material,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[Drawings]:
    """Of some reports the image of the model alone and the guided one; none if nothing guides."""
    config, guidance = context.config, context.checkpoint.manifest.guidance
    if guidance is None or config.image.guidance == 0.0 or not config.unguided_prompts:
        return []
    findings, count = guidance.findings, config.unguided_prompts
    studies = telling_reports(material.studies, findings, count, config.seed)
    builder = context.checkpoint.load_prompts()
    both = [
        store.answer(
            image_questions(builder, studies, config, how), generator, what="unguided images"
        )
        for how in (None, guidance)
    ]
    return whole_drawings(context, studies, list(zip(*both, strict=True)))


def unguided_part(context: Context, material: Material, pairs: Sequence[Drawings]) -> None:
    """Add the AUROC of both sets in the measuring judge's eyes."""
    if not pairs:
        context.figures.skip(KEY, "no report was drawn without guidance")
        return
    alone, guided = np.array([pair.codes for pair in pairs]).swapaxes(0, 1)
    sets = {"unguided": alone, "guided": guided}
    studies = [pair.study for pair in pairs]
    compare_findings(context, material, studies, sets, key=KEY, main="unguided")
