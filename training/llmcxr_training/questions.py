"""Short questions about findings with yes / no answers, made from a study's index terms.

They teach `/answer-question`, and they are the constrained interface that gives a finding a
probability (the log-probabilities of two answers).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from llmcxr_training.data import Study

YES, NO = "yes", "no"
UNUSABLE_LABELS = frozenset({"no indexing", "technical quality of image unsatisfactory"})


@dataclass(frozen=True)
class Finding:
    """Something that can be asked for.

    Attributes:
        name: as it stands in a question.
        headings: first parts of the index terms that affirm it.
    """

    name: str
    headings: frozenset[str]


FINDINGS = (
    Finding("cardiomegaly", frozenset({"cardiomegaly", "cardiac shadow"})),
    Finding("pleural effusion", frozenset({"pleural effusion"})),
    Finding("atelectasis", frozenset({"pulmonary atelectasis"})),
    Finding(
        "lung opacity", frozenset({"opacity", "airspace disease", "consolidation", "infiltrate"})
    ),
    Finding("a nodule or mass", frozenset({"nodule", "mass"})),
    Finding("a calcified granuloma", frozenset({"calcified granuloma", "granulomatous disease"})),
    Finding(
        "pulmonary congestion or edema", frozenset({"pulmonary congestion", "pulmonary edema"})
    ),
)

FINDING_QUESTIONS = (
    "Is there {}?",
    "Does this radiograph show {}?",
    "Do you see {}?",
)
NORMAL_QUESTIONS = (
    "Is this radiograph normal?",
    "Is this a normal chest X-ray?",
)


def present(study: Study, finding: Finding) -> bool:
    """Whether the index terms of `study` affirm `finding`."""
    return any(label.split("/")[0].strip() in finding.headings for label in study.labels)


def is_normal(study: Study) -> bool:
    """Whether the study is indexed as normal and nothing else."""
    return set(study.labels) == {"normal"}


def is_indexed(study: Study) -> bool:
    """Whether the index terms can be trusted to be complete."""
    return bool(study.labels) and not UNUSABLE_LABELS & set(study.labels)


def draw_questions(study: Study, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Up to `count` questions with their answers, present findings first so that both occur."""
    asked = [("normal", is_normal(study))]
    asked += [(finding.name, present(study, finding)) for finding in FINDINGS]
    rng.shuffle(asked)
    true = [item for item in asked if item[1]][: max(1, count // 2)]
    false = [item for item in asked if not item[1]][: count - len(true)]
    chosen = true + false
    rng.shuffle(chosen)
    return [(_phrase(name, rng), YES if answer else NO) for name, answer in chosen]


def _phrase(name: str, rng: random.Random) -> str:
    if name == "normal":
        return rng.choice(NORMAL_QUESTIONS)
    return rng.choice(FINDING_QUESTIONS).format(name)
