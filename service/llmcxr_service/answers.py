"""Answers as values: what was written or drawn, and what it took. They know no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.observations import Observation
from llmcxr_service.candidates import Agreement, agreement_of, most_agreed
from llmcxr_service.generator import Generation
from llmcxr_service.quality import Quality


@dataclass(frozen=True)
class TextAnswer:
    """Text that the model wrote.

    Attributes:
        text: without special tokens.
        seed: with which it was drawn.
        usage: prompt and completion tokens.
        timings_ms: stages and total.
        warnings: sentences for the reader.
        mean_log_probability: of a token, natural logarithm, before temperature and constraint;
            None where the language model's server gives none.
    """

    text: str
    seed: int
    usage: tuple[int, int]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...]
    mean_log_probability: float | None = None


@dataclass(frozen=True)
class ReportAnswer(TextAnswer):
    """A drafted report, with what the model says of each finding that it was taught.

    Attributes:
        observations: on the radiograph.
        candidates: all drafts, this one among them, where several were asked for.
        agreement: of the candidates.
    """

    observations: tuple[Observation, ...] = ()
    candidates: tuple[TextAnswer, ...] = ()
    agreement: Agreement | None = None


@dataclass(frozen=True)
class DrawnImage:
    """One synthetic radiograph: 8-bit grey (S, S), its codes (N), its seed, its likelihood."""

    grey: NDArray[np.uint8]
    codes: list[int]
    seed: int
    mean_log_probability: float | None = None


@dataclass(frozen=True)
class ImageAnswer:
    """Images that the model drew; otherwise as `TextAnswer`."""

    images: list[DrawnImage]
    usage: tuple[int, int]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Reconstruction:
    """What the VQ-GAN keeps of a radiograph: 8-bit grey (S, S), codes (N), and how near it is."""

    grey: NDArray[np.uint8]
    codes: list[int]
    quality: Quality
    timings_ms: dict[str, float]
    warnings: tuple[str, ...]


def doubts_about(text: str, generation: Generation) -> tuple[str, ...]:
    """What a reader of one text should know."""
    cut = generation.finish_reason == "length"
    doubts = ("The text was cut off at its longest length.",) if cut else ()
    return doubts if text else (*doubts, "The model wrote nothing.")


def speak_for(
    drafts: Sequence[TextAnswer],
) -> tuple[TextAnswer, Agreement | None, tuple[str, ...]]:
    """The draft that speaks for all, how far they agree, and a warning where they do not."""
    if len(drafts) == 1:
        return drafts[0], None, ()
    texts = [draft.text for draft in drafts]
    agreement = agreement_of(texts)
    answer = drafts[most_agreed(texts)]
    if not agreement.disputed:
        return answer, agreement, ()
    names = ", ".join(agreement.disputed)
    return answer, agreement, (f"The {len(drafts)} drafts differ about: {names}.",)


def total_usage(answers: Sequence[TextAnswer]) -> tuple[int, int]:
    """Prompt and completion tokens of all."""
    return sum(a.usage[0] for a in answers), sum(a.usage[1] for a in answers)
