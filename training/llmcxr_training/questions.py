"""Short questions about findings with yes / no answers, made from a study's labels: index terms
of human indexers, or the observations of CheXpert's labeller.

They teach `/answer-question`, and they are the constrained interface that gives a finding a
probability (the log-probabilities of two answers).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from llmcxr_models.observations import NO, YES
from llmcxr_training.data import Study

UNUSABLE_LABELS = frozenset({"no indexing", "technical quality of image unsatisfactory"})


@dataclass(frozen=True)
class Finding:
    """Something that can be asked for.

    Attributes:
        name: key of `OBSERVABLE_FINDINGS`; serving asks for it in that wording.
        phrase: as it stands in a question.
        headings: first parts of the index terms that affirm it.
        observations: those of CheXpert that affirm it; none where its labeller cannot tell.
    """

    name: str
    phrase: str
    headings: frozenset[str]
    observations: frozenset[str] = frozenset()


FINDINGS = (
    Finding(
        "cardiomegaly",
        "cardiomegaly",
        frozenset({"cardiomegaly", "cardiac shadow"}),
        frozenset({"cardiomegaly"}),
    ),
    Finding(
        "pleural effusion",
        "pleural effusion",
        frozenset({"pleural effusion"}),
        frozenset({"pleural effusion"}),
    ),
    Finding(
        "atelectasis",
        "atelectasis",
        frozenset({"pulmonary atelectasis"}),
        frozenset({"atelectasis"}),
    ),
    Finding(
        "lung opacity",
        "lung opacity",
        frozenset({"opacity", "airspace disease", "consolidation", "infiltrate"}),
        frozenset({"lung opacity", "consolidation"}),
    ),
    Finding(
        "nodule or mass",
        "a nodule or mass",
        frozenset({"nodule", "mass"}),
        frozenset({"lung lesion"}),
    ),
    Finding(
        "calcified granuloma",
        "a calcified granuloma",
        frozenset({"calcified granuloma", "granulomatous disease"}),
    ),
    Finding(
        "congestion or edema",
        "pulmonary congestion or edema",
        frozenset({"pulmonary congestion", "pulmonary edema"}),
        frozenset({"edema"}),
    ),
)

NORMAL = "normal"
TAUGHT = (NORMAL, *(finding.name for finding in FINDINGS))
"""What a model is taught to answer with yes or no."""

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
    """Whether the labels of `study` affirm `finding`."""
    if study.labelled_by == "chexpert":
        return not finding.observations.isdisjoint(study.labels)
    return any(label.split("/")[0].strip() in finding.headings for label in study.labels)


def can_tell(study: Study, finding: Finding) -> bool:
    """Whether the labels of `study` decide about `finding`, one way or the other."""
    if study.labelled_by != "chexpert" or present(study, finding):
        return True
    uncertain = {f"{name}/questionable" for name in finding.observations}
    return bool(finding.observations) and uncertain.isdisjoint(study.labels)


def is_normal(study: Study) -> bool:
    """Whether the study is labelled as normal and nothing else; devices are nothing else."""
    if study.labelled_by == "chexpert":
        return set(study.labels) - {"support devices"} == {"no finding"}
    return set(study.labels) == {"normal"}


def is_indexed(study: Study) -> bool:
    """Whether the labels can be trusted to be complete."""
    return bool(study.labels) and not UNUSABLE_LABELS & set(study.labels)


def question_targets(study: Study) -> list[float]:
    """Answers to the questions of `TAUGHT`, 1 for yes; NaN where the labels do not tell."""
    found = [float(is_normal(study))]
    return found + [float(present(study, f)) if can_tell(study, f) else math.nan for f in FINDINGS]


def draw_questions(study: Study, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Up to `count` questions with their answers, present findings first so that both occur."""
    asked = [(NORMAL, is_normal(study))]
    asked += [(f.phrase, present(study, f)) for f in FINDINGS if can_tell(study, f)]
    rng.shuffle(asked)
    true = [item for item in asked if item[1]][: max(1, count // 2)]
    false = [item for item in asked if not item[1]][: count - len(true)]
    chosen = true + false
    rng.shuffle(chosen)
    return [(_phrase(name, rng), YES if answer else NO) for name, answer in chosen]


def _phrase(name: str, rng: random.Random) -> str:
    if name == NORMAL:
        return rng.choice(NORMAL_QUESTIONS)
    return rng.choice(FINDING_QUESTIONS).format(name)
