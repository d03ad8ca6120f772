"""What a refined stage leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmcxr_models.report import Report
from llmcxr_training.data import Study
from llmcxr_training.refinement import Refinement, refine

BOTH = Report("Lungs are clear.", "Normal.")


def study(id_: str, **changed: Any) -> Study:
    settings: dict[str, Any] = {
        "path": Path("x.png"),
        "split": "train",
        "view": "PA",
        "patient_id": "p1",
        "report": BOTH,
        "study_id": "s1",
    }
    return Study(id=id_, **(settings | changed))


def ids(studies: list[Study], **refinement: Any) -> list[str]:
    return [s.id for s in refine(studies, Refinement(**refinement))]


def test_views() -> None:
    studies = [study("a"), study("b", view="lateral"), study("c", view="AP")]
    assert ids(studies) == ["a", "c"]
    assert ids(studies, views=("lateral",)) == ["b"]
    assert ids(studies, views=("frontal", "lateral")) == ["a", "b", "c"]
    for wrong in ((), ("oblique",)):
        with pytest.raises(ValidationError):
            Refinement(views=wrong)


def test_the_earliest_study_of_each_patient() -> None:
    studies = [
        study("late", study_id="s2", taken="21800506 093505.5"),
        study("early", study_id="s9", taken="21800506 080000."),
        study("early, again", study_id="s9", taken="21800506 080000."),
        study("other patient", patient_id="p2", study_id="s3", taken="21990101 000000."),
    ]
    assert ids(studies, first_study_only=True) == ["early", "early, again", "other patient"]
    assert ids(studies) == [s.id for s in studies]


def test_an_earlier_study_without_the_wanted_view_does_not_count() -> None:
    studies = [
        study("lateral", view="lateral", study_id="s1", taken="1"),
        study("frontal", study_id="s2", taken="2"),
    ]
    assert ids(studies, first_study_only=True) == ["frontal"]


def test_undated_studies_are_taken_as_they_come() -> None:
    studies = [study("a", study_id="s2"), study("b", study_id="s1"), study("c", study_id="s2")]
    assert ids(studies, first_study_only=True) == ["a", "c"]


def test_the_impression_alone() -> None:
    studies = [study("a"), study("b", report=Report("Lungs are clear."))]
    (kept,) = refine(studies, Refinement(sections="impression"))
    assert kept.report == Report(impression="Normal.")
    assert [s.report for s in refine(studies, Refinement())] == [s.report for s in studies]


def test_reports_that_speak_of_what_they_must() -> None:
    studies = [
        study("terse"),
        study("ruled out", report=Report("No pleural effusion or pneumothorax.")),
        study("there", report=Report("Left effusion.", "No pneumothorax.")),
        study("only in the findings", report=Report("No effusion. No pneumothorax.", "Normal.")),
    ]
    both = ("Pleural Effusion", "Pneumothorax")
    assert ids(studies, mentions=both) == ["ruled out", "there", "only in the findings"]
    assert ids(studies, mentions=both, sections="impression") == []
    with pytest.raises(ValidationError, match="knows no Halo"):
        Refinement(mentions=("Halo",))
