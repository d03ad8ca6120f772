"""Several images of one report each: for how alike they are, to pick from, to compare ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator, TokenIds
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.image_measures import finding_measures
from llmcxr_training.evaluation.image_part import codes_of, prompt_targets
from llmcxr_training.evaluation.prompts import image_questions


@dataclass(frozen=True)
class Drawings:
    """The images of one report.

    Attributes:
        study: whose report it is.
        codes: (images, image_length).
    """

    study: Study
    codes: NDArray[np.uint16]


def draw_several(
    context: Context,
    studies: Sequence[Study],
    count: int,
    store: AnswerStore,
    generator: Callable[[], Generator],
    *,
    what: str,
) -> list[list[TokenIds]]:
    """`count` answers for the report of each study; the first is the one of all other figures.

    Args:
        context: of the evaluation.
        studies: with reports.
        count: images of each.
        store: of answers.
        generator: the language model, started where an answer is missing.
        what: name of the progress bar.
    """
    builder, guidance = context.checkpoint.load_prompts(), context.checkpoint.manifest.guidance
    asked = [
        question
        for number in range(count)
        for question in image_questions(builder, studies, context.config, guidance, number=number)
    ]
    answers = store.answer(asked, generator, what=what)
    return [list(answers[start :: len(studies)]) for start in range(len(studies))]


def whole_drawings(
    context: Context, studies: Sequence[Study], answers: Sequence[Sequence[TokenIds]]
) -> list[Drawings]:
    """Of each study all its images; a study of which one is not whole is left out."""
    vocabulary = context.checkpoint.manifest.vocabulary
    found = []
    for study, several in zip(studies, answers, strict=True):
        codes = [codes_of(vocabulary, token_ids) for token_ids in several]
        if all(of is not None for of in codes):
            found.append(Drawings(study, np.array(codes, np.uint16)))
    return found


def compare_findings(
    context: Context,
    material: Material,
    studies: Sequence[Study],
    sets: Mapping[str, NDArray[np.uint16]],
    *,
    key: str,
    main: str,
) -> None:
    """Add the AUROC of what each prompt asks for, in the measuring judge's eyes.

    Args:
        context: of the evaluation.
        material: of the evaluation.
        studies: whose reports were drawn.
        sets: by name (studies, image_length) codes, an image of each study.
        key: of the figures.
        main: the set whose figures have the key alone.
    """
    findings = material.lab.judge.config.findings
    finding_measures(
        context.figures,
        {name: material.lab.decode(codes, f"{name} images") for name, codes in sets.items()},
        prompt_targets(studies, findings),
        findings,
        [study.patient_id for study in studies],
        context.resampling,
        context.least_positives,
        key=key,
        main=main,
    )
