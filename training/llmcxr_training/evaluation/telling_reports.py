"""Some reports of many, to draw again in another way: most of them with something to show."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llmcxr_models.finding_mentions import NO_FINDING
from llmcxr_models.picking import read_wanted
from llmcxr_training.data import Study

_WITH_FINDINGS = 2 / 3
"""Share of the reports that affirm a finding, as far as there are so many."""


def telling_reports(
    studies: Sequence[Study], findings: Sequence[str], count: int, seed: int
) -> list[Study]:
    """Reports that affirm some of `findings`, and others; drawn at random."""
    shuffled = list(studies)
    random.Random(seed).shuffle(shuffled)  # noqa: S311  a sample, no secret
    telling: list[Study] = []
    others: list[Study] = []
    for study in shuffled:
        present = set(read_wanted(study.report.text, findings).present)
        (telling if present - {NO_FINDING} else others).append(study)
    first = telling[: round(count * _WITH_FINDINGS)]
    return (first + others)[:count]
