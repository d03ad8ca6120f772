"""Several drafts of one report: how far they agree, and which one speaks for them. Pure.

The draft that the others agree with most is the answer (minimum Bayes risk decoding, Kumar and
Byrne 2004, with agreement as the gain): what many samples say is more often right than what one
says. Agreement is counted in findings, by the labeller that reads English reports, and in words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from llmcxr_models.labeller import positives

T = TypeVar("T")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Agreement:
    """How far drafts of one report agree, each from 0 (nothing in common) to 1 (the same).

    Attributes:
        findings: mean over pairs of shared findings among all that either affirms (Jaccard); two
            that affirm none agree.
        text: mean over pairs of the F1 of their words, each as often as it occurs.
        affirmed: by finding, the share of drafts that affirm it; those of share 0 are left out.
    """

    findings: float
    text: float
    affirmed: dict[str, float]

    @property
    def disputed(self) -> tuple[str, ...]:
        """Findings that some drafts affirm and some do not."""
        return tuple(name for name, share in self.affirmed.items() if share < 1.0)


def agreement_of(texts: Sequence[str]) -> Agreement:
    """Compare at least two drafts."""
    found = [positives(text) for text in texts]
    counts = Counter(finding for one in found for finding in one)
    return Agreement(
        findings=_mean_of_pairs(found, _shared_findings),
        text=_mean_of_pairs([_words(text) for text in texts], _shared_words),
        affirmed={name: counts[name] / len(texts) for name in sorted(counts)},
    )


def most_agreed(texts: Sequence[str]) -> int:
    """The index of the draft that agrees most with the others; the first of equals."""
    found = [positives(text) for text in texts]
    words = [_words(text) for text in texts]

    def gain(one: int) -> float:
        others = [other for other in range(len(texts)) if other != one]
        return sum(
            _shared_findings(found[one], found[other]) + _shared_words(words[one], words[other])
            for other in others
        )

    return max(range(len(texts)), key=gain)


def _mean_of_pairs(items: Sequence[T], shared: Callable[[T, T], float]) -> float:
    pairs = [shared(a, b) for a, b in combinations(items, 2)]
    return sum(pairs) / len(pairs)


def _shared_findings(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right) if left | right else 1.0


def _shared_words(left: Counter[str], right: Counter[str]) -> float:
    total = left.total() + right.total()
    return 2.0 * (left & right).total() / total if total else 1.0


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))
