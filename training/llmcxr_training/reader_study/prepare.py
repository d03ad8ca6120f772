"""Candidates -> a blinded study folder: which cases, in which parts, under which names."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from llmcxr_models.report import Report
from llmcxr_training.reader_study.study import (
    IMAGES,
    STUDY_JSON,
    Case,
    Key,
    ReportText,
    Study,
    StudyError,
    Truth,
    write_study,
)

Grey = NDArray[np.uint8]
"""(S, S)"""


class Design(BaseModel):
    """How large a study is, and how it is drawn.

    Attributes:
        title: stands on the page; say nothing of the truth in it.
        images: pictures to judge, half of them generated.
        reports: radiographs with two reports to compare.
        repeats: share of the cases that come a second time, for agreement of a reader with
            themself.
        seed: of the choice. Names of cases are random whatever the seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Reader study: chest radiographs"
    images: int = Field(default=40, ge=0)
    reports: int = Field(default=20, ge=0)
    repeats: float = Field(default=0.1, ge=0.0, le=1.0)
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """One radiograph of the evaluation, and what the model made of it.

    Attributes:
        study_id: of the data set.
        patient_id: no patient is in two cases.
        image: the real radiograph as the model sees it.
        drawn: makes the picture that the model drew from the report; None where it drew none.
        reference: the report of the study.
        written: the report that the model wrote of the image; empty where it wrote none.
    """

    study_id: str
    patient_id: str
    image: Grey
    drawn: Callable[[], Grey] | None
    reference: Report
    written: Report

    @property
    def is_comparable(self) -> bool:
        """Whether there are two different reports."""
        both = not self.reference.is_empty and not self.written.is_empty
        return both and _flat(self.reference) != _flat(self.written)


@dataclass(frozen=True)
class _Planned:
    """A case before its repetition is made."""

    candidate: Candidate
    kind: str
    flag: bool
    """Generated, or generated first."""


def prepare(
    candidates: Sequence[Candidate],
    design: Design,
    folder: Path,
    provenance: dict[str, Any] | None = None,
) -> Study:
    """Draw cases of different patients, and write the study folder.

    Args:
        candidates: what can be chosen from.
        design: how many.
        folder: made; must not hold a study.
        provenance: of the candidates.

    Raises:
        StudyError: there is a study already, or there are too few patients.
    """
    if (folder / STUDY_JSON).exists():
        raise StudyError(f"{folder} holds a study already; ratings may depend on it")
    rng = random.Random(f"{design.seed}")  # noqa: S311  a sample, no secret
    planned = _choose(candidates, design, rng)
    repeated = {
        kind: round(design.repeats * sum(case.kind == kind for case in planned))
        for kind in ("image", "report")
    }
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    truths: dict[str, Truth] = {}
    for case in planned:
        again = repeated[case.kind] > 0
        repeated[case.kind] -= again
        part = 0 if again else rng.randrange(3)
        picture = _picture(case)
        first = _write(folder, case, picture, part, None, cases, truths)
        if again:
            _write(folder, case, picture, 2, first, cases, truths)
    # Not in the order of the choice, which is that of the truth.
    cases.sort(key=lambda case: case.id)
    found = {"candidates": len(candidates), "design": design.model_dump(mode="json")}
    left_out = sum(not c.is_comparable for c in candidates)
    found |= {"without_two_different_reports": left_out}
    ordered = {case.id: truths[case.id] for case in cases}
    return write_study(
        folder, design.title, tuple(cases), Key(cases=ordered), found | (provenance or {})
    )


def _choose(candidates: Sequence[Candidate], design: Design, rng: random.Random) -> list[_Planned]:
    """Shuffled, so that repetitions fall on anything; half of each kind is flagged."""
    if not design.images + design.reports:
        raise StudyError("a study needs images or reports")
    by_patient: dict[str, Candidate] = {}
    for candidate in rng.sample(list(candidates), len(candidates)):
        by_patient.setdefault(candidate.patient_id, candidate)
    free = list(by_patient.values())

    def take(count: int, what: str, wanted: Callable[[Candidate], bool]) -> list[Candidate]:
        chosen = [candidate for candidate in free if wanted(candidate)][:count]
        if len(chosen) < count:
            raise StudyError(f"only {len(chosen)} patients for {count} {what}; ask for fewer")
        for candidate in chosen:
            free.remove(candidate)
        return chosen

    reports = take(design.reports, "comparisons of reports", lambda c: c.is_comparable)
    generated = take(design.images // 2, "generated images", lambda c: c.drawn is not None)
    real = take(design.images - design.images // 2, "real images", lambda _: True)
    firsts = [number % 2 == 0 for number in range(len(reports))]
    planned = [_Planned(c, "report", f) for c, f in zip(reports, firsts, strict=True)]
    planned += [_Planned(c, "image", True) for c in generated]
    planned += [_Planned(c, "image", False) for c in real]
    rng.shuffle(planned)
    return planned


def _picture(case: _Planned) -> Grey:
    if case.kind == "image" and case.flag:
        assert case.candidate.drawn is not None
        return case.candidate.drawn()
    return case.candidate.image


def _write(
    folder: Path,
    planned: _Planned,
    picture: Grey,
    part: int,
    repeats: str | None,
    cases: list[Case],
    truths: dict[str, Truth],
) -> str:
    """Add a case and its truth; reports that come again have changed places."""
    id_ = secrets.token_hex(8)
    candidate = planned.candidate
    truth = Truth(study_id=candidate.study_id, repeats=repeats)
    if planned.kind == "image":
        case = Case(id=id_, kind="image", part=part)
        truth = truth.model_copy(update={"generated": planned.flag})
    else:
        first = planned.flag is (repeats is None)
        pair = (_text(candidate.written), _text(candidate.reference))
        case = Case(id=id_, kind="report", part=part, reports=pair if first else (pair[1], pair[0]))
        truth = truth.model_copy(update={"generated_first": first})
    # Uncompressed: a drawn picture is smoother, and the size of its file would tell.
    Image.fromarray(picture).save(folder / case.image, "PNG", compress_level=0)
    cases.append(case)
    truths[id_] = truth
    return id_


def _text(report: Report) -> ReportText:
    return ReportText(findings=report.findings, impression=report.impression)


def _flat(report: Report) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in report.text.lower()).split()
