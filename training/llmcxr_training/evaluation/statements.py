"""What report prompts state: the findings that the checkpoint itself has answered with yes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.observations import observable_findings, to_state
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.finding_answers import finding_questions, probabilities


def ask_statements(
    checkpoint: Checkpoint,
    codes: NDArray[np.uint16],
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[tuple[str, ...]] | None:
    """Of each radiograph, codes (N, image_length); None where the checkpoint's prompts state none.

    The answers are those of `findings.*`: nothing is asked twice.
    """
    stated_from = checkpoint.manifest.stated_from
    if not stated_from:
        return None
    names = tuple(stated_from)
    asked = finding_questions(checkpoint.load_prompts(), codes, observable_findings(names))
    answers = store.log_probabilities(asked, generator, what="findings to state")
    return [
        to_state(dict(zip(names, row, strict=True)), stated_from)
        for row in probabilities(answers, len(names)).tolist()
    ]
