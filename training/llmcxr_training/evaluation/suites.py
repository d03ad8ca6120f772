"""The three first experiments, each a named part of an evaluation.

They ask the paper's own questions in their clearest form: does a report with one finding make an
image with that finding, does an image with one finding make a report that names it, and does the
model still follow instructions in text. Everything else is measured as it always is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmcxr_models.finding_mentions import NO_FINDING, SUPPORT_DEVICES
from llmcxr_training.data import Study
from llmcxr_training.evaluation.settings import SuiteName
from llmcxr_training.targets import ABSENT, PRESENT, targets


class Part(StrEnum):
    """What an evaluation is made of."""

    REPORTS = "reports"
    IMAGES = "images"
    FINDINGS = "findings"
    LANGUAGE = "language"
    INSTRUCTIONS = "instructions"


IMAGE_PARTS = frozenset({Part.REPORTS, Part.IMAGES, Part.FINDINGS})
"""Those that need radiographs."""

Judged = Callable[[Study], Mapping[str, float]]


@dataclass(frozen=True)
class Suite:
    """Which radiographs, and what is measured on them.

    Attributes:
        parts: what is measured.
        judged: what is known of a study's findings; None to take every study.
        least_positives: a finding with fewer is left out; None for the evaluation's own.
    """

    parts: frozenset[Part]
    judged: Judged | None = None
    least_positives: int | None = None

    def chosen(self, studies: Sequence[Study], seed: int) -> list[Study]:
        """Studies with one clear finding, and as many without any; in their order.

        Devices are no finding of their own. A study is not clear where anything is left open.
        """
        if self.judged is None:
            return list(studies)
        kinds = [clear_finding(self.judged(study)) for study in studies]
        single = [i for i, kind in enumerate(kinds) if kind not in (None, NO_FINDING)]
        normal = [i for i, kind in enumerate(kinds) if kind == NO_FINDING]
        rng = random.Random(seed)  # noqa: S311  a sample, no secret
        controls = rng.sample(normal, min(len(normal), len(single)))
        return [studies[i] for i in sorted(single + controls)]


def clear_finding(found: Mapping[str, float]) -> str | None:
    """The only finding of a study, `No Finding` if it has none; None if that is not clear."""
    others = {f: v for f, v in found.items() if f not in (NO_FINDING, SUPPORT_DEVICES)}
    if any(value not in (PRESENT, ABSENT) for value in others.values()):
        return None
    present = [finding for finding, value in others.items() if value == PRESENT]
    if not present:
        return NO_FINDING
    return present[0] if len(present) == 1 else None


def _by_report(study: Study) -> Mapping[str, float]:
    """What the prompt itself says."""
    return targets(study.report.text, ())


def _by_everything(study: Study) -> Mapping[str, float]:
    """What the raw report and the indexers say together."""
    return targets(study.raw_text, study.labels)


EVERYTHING = Suite(frozenset(Part))

SUITES: Mapping[SuiteName, Suite] = {
    "single-finding-reports": Suite(frozenset({Part.IMAGES}), _by_report, least_positives=5),
    "single-finding-images": Suite(
        frozenset({Part.REPORTS, Part.FINDINGS}), _by_everything, least_positives=5
    ),
    "instructions": Suite(frozenset({Part.LANGUAGE, Part.INSTRUCTIONS})),
}


def suite(name: SuiteName | None) -> Suite:
    """The suite of this name; everything without one."""
    return EVERYTHING if name is None else SUITES[name]
