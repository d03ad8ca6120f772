"""Answers as values: what was written or drawn, and what it took. They know no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.observations import Observation
from llmcxr_models.picking import Choice, Judgement, Wanted
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
        stated: findings that the prompt has stated; None where this checkpoint's states none.
    """

    observations: tuple[Observation, ...] = ()
    candidates: tuple[TextAnswer, ...] = ()
    agreement: Agreement | None = None
    stated: tuple[str, ...] | None = None


@dataclass(frozen=True)
class DrawnImage:
    """One synthetic radiograph.

    Attributes:
        grey: (S, S) 8-bit.
        codes: (N).
        seed: with which it was drawn.
        mean_log_probability: as in `TextAnswer`.
        picked_from: images that it is the best of, by the judge; 1 where none was picked.
    """

    grey: NDArray[np.uint8]
    codes: list[int]
    seed: int
    mean_log_probability: float | None = None
    picked_from: int = 1


@dataclass(frozen=True)
class ImageCandidate:
    """One of several images of which the best was picked.

    Attributes:
        seed: with which it was drawn.
        judgement: what the judge says of it.
        chosen: whether it is the one.
        mean_log_probability: as in `TextAnswer`.
    """

    seed: int
    judgement: Judgement
    chosen: bool
    mean_log_probability: float | None = None


@dataclass(frozen=True)
class ImageAnswer:
    """Images that the model drew; otherwise as `TextAnswer`.

    Attributes:
        candidates: all that the one image was picked from; empty where none was picked.
        wanted: what the judge was to look for in them.
    """

    images: list[DrawnImage]
    usage: tuple[int, int]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...]
    candidates: tuple[ImageCandidate, ...] = ()
    wanted: Wanted | None = None


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


def picked(answer: ImageAnswer, choice: Choice) -> ImageAnswer:
    """The answer with only the image that was chosen, and what was said of all."""
    candidates = tuple(
        ImageCandidate(image.seed, judgement, i == choice.best, image.mean_log_probability)
        for i, (image, judgement) in enumerate(zip(answer.images, choice.judgements, strict=True))
    )
    chosen = replace(answer.images[choice.best], picked_from=len(candidates))
    return replace(
        answer,
        images=[chosen],
        warnings=answer.warnings + choice.doubts,
        candidates=candidates,
        wanted=choice.wanted,
    )


def total_usage(answers: Sequence[TextAnswer]) -> tuple[int, int]:
    """Prompt and completion tokens of all."""
    return sum(a.usage[0] for a in answers), sum(a.usage[1] for a in answers)
