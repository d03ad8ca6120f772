"""Which of several drawn images shows best what its prompt says, by the checkpoint's judge.

The judge scores each picture for the findings that it knows; the rule-based labeller reads in the
prompt which of them are wanted. The judge is a small network with errors of its own, and pictures
that were picked by it please it more than they please another one: what picks must not measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from llmcxr_models.finding_mentions import FINDINGS, NO_FINDING, SUPPORT_DEVICES
from llmcxr_models.judge import Judge
from llmcxr_models.labeller import Mention, label


@dataclass(frozen=True)
class Wanted:
    """What a prompt says of the findings that a judge knows.

    Attributes:
        present: affirmed.
        absent: denied or not spoken of: reports name what is there.
        left_open: uncertain; they do not count.
        unseen: affirmed, but no finding of the judge's.
    """

    present: tuple[str, ...]
    absent: tuple[str, ...]
    left_open: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one image.

    Attributes:
        agreement: with what is wanted, in [0, 1]; None where nothing is decided.
        scores: by finding, in [0, 1]; not calibrated.
    """

    agreement: float | None
    scores: dict[str, float]


@dataclass(frozen=True)
class Choice:
    """What came of looking at several images.

    Attributes:
        wanted: what was looked for.
        judgements: of each image, in their order.
    """

    wanted: Wanted
    judgements: tuple[Judgement, ...]

    @property
    def best(self) -> int:
        """The index of the image that agrees most; the first of equals."""
        return max(range(len(self.judgements)), key=lambda i: self.judgements[i].agreement or 0.0)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader of the picked image should know."""
        if not self.wanted.present + self.wanted.absent:
            return ("The text leaves open all that the judge knows: the first image was taken.",)
        if self.wanted.unseen:
            names = ", ".join(self.wanted.unseen)
            return (f"The judge that picked the image does not know: {names}.",)
        return ()


class Picker:
    """Scores images against their prompt.

    Args:
        judge: in evaluation mode, on the CPU.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def pick(self, report: str, pictures: Sequence[Tensor]) -> Choice:
        """Look at model pixels (C, S, S) in [-1, 1] of images that were drawn of `report`."""
        findings = self._judge.config.findings
        wanted = read_wanted(report, findings)
        # One by one: what is said of an image shall not depend on the others, to the last bit.
        rows = [self._judge.scores(picture[None])[0].tolist() for picture in pictures]
        seen = [dict(zip(findings, row, strict=True)) for row in rows]
        return Choice(wanted, tuple(Judgement(agreement(s, wanted), s) for s in seen))


def read_wanted(report: str, findings: Sequence[str]) -> Wanted:
    """Read a prompt by the labeller's rules, as a judge's targets are made from reports.

    Args:
        report: the prompt.
        findings: the judge's; those that the labeller has no word for are left open.
    """
    said = label(report)
    others = [m for f, m in said.items() if f not in (NO_FINDING, SUPPORT_DEVICES)]
    if max(others) is Mention.UNCERTAIN:
        said[NO_FINDING] = Mention.UNCERTAIN
    affirmed = [f for f in FINDINGS if said[f] is Mention.POSITIVE]
    undecided = (None, Mention.UNCERTAIN)
    present = tuple(f for f in findings if f in affirmed)
    left_open = tuple(f for f in findings if said.get(f) in undecided)
    return Wanted(
        present=present,
        absent=tuple(f for f in findings if f not in present + left_open),
        left_open=left_open,
        unseen=tuple(f for f in affirmed if f not in findings),
    )


def agreement(scores: dict[str, float], wanted: Wanted) -> float | None:
    """The judge's expected balanced accuracy: what is wanted counts as much as what is not.

    The mean score of the wanted findings, and of one minus the others' scores; their mean where
    there are both. So one finding that is asked for is not outvoted by seven that are not.
    """
    sides = [[scores[f] for f in wanted.present], [1.0 - scores[f] for f in wanted.absent]]
    means = [sum(side) / len(side) for side in sides if side]
    return sum(means) / len(means) if means else None
