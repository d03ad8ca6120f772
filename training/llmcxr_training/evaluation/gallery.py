"""Pictures of an evaluation for people: examples, and pairs that look copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.labeller import positives
from llmcxr_training.data import Study

Grey = NDArray[np.uint8]
"""(S, S)"""


@dataclass(frozen=True)
class Example:
    """One radiograph and what was made of it.

    Attributes:
        prompt: the real report.
        real: the radiograph.
        reconstructed: through the VQ-GAN.
        generated: of the prompt; None where nothing was drawn, or of a wrong length.
        written: the report that was written of the radiograph; None where none was.
    """

    prompt: str
    real: Grey
    reconstructed: Grey
    generated: Grey | None
    written: str | None


@dataclass(frozen=True)
class Pair:
    """A generated image and the training image that is nearest to it.

    Attributes:
        generated: of the prompt.
        train: a radiograph of the train split.
        distance: in the judge's features.
        prompt: of the generated one.
        train_report: of the training one.
    """

    generated: Grey
    train: Grey
    distance: float
    prompt: str
    train_report: str


@dataclass
class Gallery:
    """All pictures of an evaluation.

    Attributes:
        examples: real, reconstructed, generated.
        pairs: nearest first.
        several: by prompt, several images of it.
    """

    examples: list[Example] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    several: list[tuple[str, list[Grey]]] = field(default_factory=list)


def varied(studies: Sequence[Study], count: int) -> list[int]:
    """`count` rows that show different findings: in turn the next study of each."""
    by_finding: dict[str, list[int]] = {}
    for row, study in enumerate(studies):
        found = positives(study.report.text)
        first = next((finding for finding in FINDINGS if finding in found), "")
        by_finding.setdefault(first, []).append(row)
    chosen: list[int] = []
    while by_finding and len(chosen) < count:
        for finding in list(by_finding):
            chosen.append(by_finding[finding].pop(0))
            if not by_finding[finding]:
                del by_finding[finding]
    return chosen[:count]
