"""Which studies a stage learns from, and how much of their reports: the `[refinement]` table.

The paper trains twice: on everything, then on a refined subset, the frontal views of each
patient's first study with the impression alone (arXiv 2305.11490, section 3.3). Pure; knows
neither models nor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.labeller import Mention, label
from llmcxr_models.report import Report
from llmcxr_training.data import Study

View = Literal["frontal", "lateral"]


class Refinement(BaseModel):
    """What "refined" means; the default leaves out nothing but lateral views.

    Attributes:
        views: those that are learnt; the checkpoint says so, and the service asks for no others.
        first_study_only: of each patient the earliest study, with all its radiographs.
        sections: `both`, or the `impression` alone; a study without one is left out.
        mentions: observations of the labeller that a report must speak of, be it to rule them
            out. The likeliest report of a set with terse templates in it is a terse one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    views: tuple[View, ...] = Field(default=("frontal",), min_length=1)
    first_study_only: bool = False
    sections: Literal["both", "impression"] = "both"
    mentions: tuple[str, ...] = ()

    @field_validator("mentions")
    @classmethod
    def _are_observations(cls, mentions: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(mentions) - set(FINDINGS):
            raise ValueError(f"the labeller knows no {', '.join(sorted(unknown))}")
        return mentions


def refine(studies: Iterable[Study], refinement: Refinement) -> list[Study]:
    """The studies of a stage, in their order."""
    kept = [s for s in studies if ("frontal" if s.is_frontal else "lateral") in refinement.views]
    if refinement.first_study_only:
        kept = _first_studies(kept)
    if refinement.sections == "impression":
        kept = [
            replace(s, report=Report(impression=s.report.impression))
            for s in kept
            if s.report.impression
        ]
    if refinement.mentions:
        kept = [s for s in kept if _mentions(s.report, refinement.mentions)]
    return kept


def _mentions(report: Report, observations: Sequence[str]) -> bool:
    found = label(report.text)
    return all(found[observation] is not Mention.ABSENT for observation in observations)


def _first_studies(studies: Sequence[Study]) -> list[Study]:
    """A patient's first study with a wanted view; of undated ones, the first that is named."""
    first: dict[str, tuple[str, str]] = {}
    for study in studies:
        visit = (study.taken, study.study_id)
        if study.taken:
            first[study.patient_id] = min(first.get(study.patient_id, visit), visit)
        else:
            first.setdefault(study.patient_id, visit)
    return [s for s in studies if (s.taken, s.study_id) == first[s.patient_id]]
