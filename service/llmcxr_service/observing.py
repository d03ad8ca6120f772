"""Codes -> observations: one yes / no question for each finding that the checkpoint was taught.

The first is asked alone: vLLM takes up an image's part of the prompt that it has read before, not
one that it is just reading. All others are one request then, and each costs one step; so does the
beginning of the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llmcxr_models.observations import ObservableFinding, Observation
from llmcxr_models.prompt import PromptBuilder
from llmcxr_service.generator import Generator

LIKELY = 0.5
"""From here on the model leans to yes."""


async def observe(
    codes: Sequence[int],
    findings: Sequence[ObservableFinding],
    prompts: PromptBuilder,
    generator: Generator,
) -> dict[str, float]:
    """Probability of yes against no, by finding's name.

    Raises:
        GenerationError: no usable answer.
    """
    asked = [prompts.yes_or_no(codes, finding.question) for finding in findings]
    answers = await generator.log_probabilities(asked[:1])
    answers += await generator.log_probabilities(asked[1:])
    return {
        finding.name: _yes_share(*answer) for finding, answer in zip(findings, answers, strict=True)
    }


def compare_with_text(
    findings: Sequence[ObservableFinding],
    probabilities: dict[str, float],
    mentioned: Mapping[str, bool | None],
    stated_from: Mapping[str, float],
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Observations, and a warning where they and the report's text contradict each other.

    Args:
        findings: that were asked about.
        probabilities: of yes against no, by name.
        mentioned: what the text says, by name.
        stated_from: from which probability on the prompt has stated a finding, by name; one that
            was stated counts as a yes.
    """
    observations = tuple(
        Observation(finding, probabilities[finding.name], mentioned.get(finding.name))
        for finding in findings
    )
    differing = [
        o.finding.name
        for o in observations
        if o.mentioned is not None
        and o.mentioned != (o.probability >= stated_from.get(o.finding.name, LIKELY))
    ]
    if not differing:
        return observations, ()
    names = ", ".join(differing)
    return observations, (f"The report's text and the model's own answers differ about: {names}.",)


def _yes_share(yes: float, no: float) -> float:
    """Softmax of two log-probabilities, without overflow."""
    if yes >= no:
        return 1.0 / (1.0 + math.exp(no - yes))
    share = math.exp(yes - no)
    return share / (1.0 + share)
