"""Several images of one report each: for how alike they are, and to pick from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator, TokenIds
from llmcxr_training.evaluation.context import Context
from llmcxr_training.evaluation.prompts import image_questions


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
