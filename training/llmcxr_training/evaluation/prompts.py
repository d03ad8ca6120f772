"""What the language model is asked in an evaluation: the service's own prompts and defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.checkpoint import Manifest
from llmcxr_models.guidance import GuidanceConfig, guide
from llmcxr_models.prompt import PromptBuilder
from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.evaluation.settings import Evaluation


def report_questions(
    builder: PromptBuilder,
    studies: Sequence[Study],
    codes: NDArray[np.uint16],
    config: Evaluation,
    stated: Sequence[Sequence[str] | None] | None,
) -> list[Question]:
    """Ask for the report of each radiograph.

    Args:
        builder: frames prompts.
        studies: whose radiographs these are.
        codes: (N, image_length).
        config: of the evaluation.
        stated: findings that each prompt states; None where the checkpoint's state none.
    """
    sampling, each = config.report, stated or [None] * len(studies)
    prompts = [
        builder.report(
            image.tolist(),
            indication=study.indication if sampling.indication else "",
            stated=found,
            max_tokens=sampling.max_tokens,
        )
        for study, image, found in zip(studies, codes, each, strict=True)
    ]
    return [
        Question(prompt, sampling.temperature, sampling.top_p, seed_of(study, config.seed))
        for study, prompt in zip(studies, prompts, strict=True)
    ]


def image_questions(
    builder: PromptBuilder,
    studies: Sequence[Study],
    config: Evaluation,
    guidance: GuidanceConfig | None,
    *,
    number: int = 0,
) -> list[Question]:
    """Ask for a radiograph of each report; for another one with each `number`.

    Args:
        builder: frames prompts.
        studies: with reports.
        config: of the evaluation.
        guidance: of the checkpoint; None to draw without.
        number: 0 for the image of all figures, or another one.
    """
    sampling = config.image
    return [
        Question(
            builder.image(study.report.text),
            sampling.temperature,
            sampling.top_p,
            seed_of(study, config.seed, number),
            guide(study.report.text, guidance, sampling.guidance) if guidance else None,
        )
        for study in studies
    ]


def fits(builder: PromptBuilder, study: Study, config: Evaluation, manifest: Manifest) -> bool:
    """Whether both questions about `study` and their longest answers are short enough."""
    codes = np.zeros((1, builder.vocabulary.image_length), np.uint16)
    longest = tuple(manifest.stated_from) or None
    asked = report_questions(builder, [study], codes, config, [longest])
    asked += image_questions(builder, [study], config, None)
    prompts = [question.prompt for question in asked]
    return all(
        len(p.token_ids) + p.constraint.max_tokens <= manifest.max_model_len for p in prompts
    )


def seed_of(study: Study, seed: int, number: int = 0) -> int:
    """A study's own seed: the same whatever else is measured."""
    said = f"{seed}\0{study.id}" + (f"\0{number}" if number else "")
    digest = hashlib.sha256(said.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
