"""A rule-based labeller of reports in the manner of CheXpert (arXiv 1901.07031, section 3).

Mention, then negation, then uncertainty, sentence by sentence; the strongest statement of a
report wins: positive over uncertain over negative. Fast, deterministic, without weights. The
phrases are in `finding_mentions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

from llmcxr_models import finding_mentions as phrases
from llmcxr_models.finding_mentions import FINDINGS, NO_FINDING, SUPPORT_DEVICES


class Mention(IntEnum):
    """What a report says of a finding; the larger statement wins."""

    ABSENT = 0
    NEGATIVE = 1
    UNCERTAIN = 2
    POSITIVE = 3


def label(text: str) -> dict[str, Mention]:
    """What the report `text` says of each of the fourteen observations."""
    found = dict.fromkeys(FINDINGS, Mention.ABSENT)
    for sentence in sentences(text):
        for finding, mention in _label_sentence(sentence):
            found[finding] = max(found[finding], mention)
    stated = [m for f, m in found.items() if f not in (NO_FINDING, SUPPORT_DEVICES)]
    if text.strip() and max(stated) <= Mention.NEGATIVE:
        found[NO_FINDING] = Mention.POSITIVE
    return found


def positives(text: str, *, uncertain_is_positive: bool = False) -> frozenset[str]:
    """The observations that `text` affirms, under one of the two usual policies."""
    least = Mention.UNCERTAIN if uncertain_is_positive else Mention.POSITIVE
    return frozenset(finding for finding, mention in label(text).items() if mention >= least)


def sentences(text: str) -> list[str]:
    """Lower-case sentences; section names are dropped."""
    plain = re.sub(r"\b(findings|impression)\s*:", ". ", text.lower())
    parts = re.split(r"(?<=[.!?])\s+|\n+", re.sub(r"\s+", " ", plain))
    return [part.strip(" .") for part in parts if part.strip(" .")]


def _label_sentence(sentence: str) -> Iterable[tuple[str, Mention]]:
    for finding, patterns in _MENTIONS.items():
        for match in patterns.finditer(sentence):
            yield finding, _judge(sentence, match.start(), match.end())
    if _NORMAL_HEART.search(sentence):
        borderline = _BORDERLINE.search(sentence)
        yield "Cardiomegaly", Mention.UNCERTAIN if borderline else Mention.NEGATIVE
    if _CLEAR_LUNGS.search(sentence):
        for finding in phrases.DENIED_BY_CLEAR_LUNGS:
            yield finding, Mention.NEGATIVE


def _judge(sentence: str, start: int, end: int) -> Mention:
    """Negated, doubted or affirmed, by the words of the mention's clause."""
    before = _CLAUSE_END.split(sentence[:start])[-1]
    after = _CLAUSE_END.split(sentence[end:])[0]
    if _DOUBTED_AFTER.search(after):
        return Mention.UNCERTAIN
    denied = _DENIED_BEFORE.search(before)
    if denied and not _LOST_AFTER_DENIAL.search(before[denied.end() :]):
        return Mention.NEGATIVE
    if _DENIED_AFTER.search(after) or " not " in sentence[start:end]:
        return Mention.NEGATIVE
    if _DOUBTED_BEFORE.search(before) or _ALTERNATIVE_AFTER.search(after):
        return Mention.UNCERTAIN
    return Mention.POSITIVE


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_MENTIONS = {finding: _any(patterns) for finding, patterns in phrases.MENTIONS.items()}
_DENIED_BEFORE = _any(phrases.DENIED_BEFORE)
_DENIED_AFTER = _any(phrases.DENIED_AFTER)
_DOUBTED_BEFORE = _any(phrases.DOUBTED_BEFORE)
_DOUBTED_AFTER = _any(phrases.DOUBTED_AFTER)
_ALTERNATIVE_AFTER = re.compile(phrases.ALTERNATIVE_AFTER)
_CLAUSE_END = re.compile(phrases.CLAUSE_END)
_NORMAL_HEART = _any(phrases.NORMAL_HEART)
_BORDERLINE = re.compile(phrases.BORDERLINE)
_CLEAR_LUNGS = _any(phrases.CLEAR_LUNGS)
# "no change in moderate pneumothorax", "not significantly changed effusion": the finding is there.
_LOST_AFTER_DENIAL = re.compile(r"\b(change|changed|longer|interval|significant change)\b|\bwith\b")
