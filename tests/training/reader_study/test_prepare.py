"""What is drawn, what of it is blind, and that a changed folder is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmcxr_models.report import Report
from llmcxr_training.reader_study.example import drawn_candidates
from llmcxr_training.reader_study.order import order_for
from llmcxr_training.reader_study.prepare import Design, prepare
from llmcxr_training.reader_study.study import KEY_JSON, STUDY_JSON, Study, StudyError


def test_as_many_of_each_kind_as_asked_for(study: Study) -> None:
    key = study.open_key()
    first = [t for t in key.values() if t.repeats is None]
    assert Counter(t.generated for t in first) == {True: 4, False: 4, None: 4}
    assert Counter(t.generated_first for t in first) == {True: 2, False: 2, None: 8}
    assert len({t.study_id for t in first}) == 12


def test_repetitions_come_late_with_reports_changed_over(study: Study) -> None:
    key = study.open_key()
    again = {id_: t for id_, t in key.items() if t.repeats is not None}
    assert Counter(study.cases[id_].kind for id_ in again) == {"image": 2, "report": 1}
    for id_, truth in again.items():
        one, other = study.cases[str(truth.repeats)], study.cases[id_]
        assert (one.part, other.part) == (0, 2)
        assert (study.folder / one.image).read_bytes() == (study.folder / other.image).read_bytes()
        if one.kind == "report":
            assert one.reports == (other.reports or ())[::-1]
            assert key[one.id].generated_first is not truth.generated_first
        else:
            assert key[one.id].generated == truth.generated


def test_nothing_but_the_key_tells_what_is_what(study: Study) -> None:
    shown = (study.folder / STUDY_JSON).read_text(encoding="utf-8")
    assert "phantom-0" not in shown
    cases = json.loads(shown)["cases"]
    assert all(set(case) == {"id", "kind", "part", "reports"} for case in cases)
    # A drawn picture is smoother; the size of its file would tell.
    assert len({(study.folder / c.image).stat().st_size for c in study.cases.values()}) == 1
    for case in study.cases.values():
        assert re.fullmatch("[0-9a-f]{16}", case.id)
        with Image.open(study.folder / case.image) as picture:
            assert not picture.info
            assert (picture.mode, picture.size) == ("L", (256, 256))
    assert [case["id"] for case in cases] == sorted(study.cases)


def test_the_choice_depends_on_the_seed_alone(tmp_path: Path) -> None:
    def chosen(name: str, seed: int) -> set[tuple[str, object]]:
        design = Design(images=4, reports=2, seed=seed)
        key = prepare(drawn_candidates(12), design, tmp_path / name).open_key()
        return {(t.study_id, t.generated) for t in key.values()}

    assert chosen("a", 1) == chosen("b", 1) != chosen("c", 2)


def test_equal_reports_and_a_patient_twice_are_left_out(tmp_path: Path) -> None:
    candidates = drawn_candidates(4)
    same = replace(candidates[0], written=Report(candidates[0].reference.findings.upper() + " .",
                                                 candidates[0].reference.impression))  # fmt: skip
    twice = replace(candidates[1], patient_id=candidates[2].patient_id)
    design = Design(images=0, reports=2, repeats=0)
    found = prepare([same, twice, *candidates[2:]], design, tmp_path / "a")
    assert {t.study_id for t in found.open_key().values()} <= {
        "phantom-001",
        "phantom-002",
        "phantom-003",
    }
    assert found.file.provenance["without_two_different_reports"] == 1
    with pytest.raises(StudyError, match="only 2 patients for 3 comparisons"):
        prepare([same, twice, *candidates[2:]], Design(images=0, reports=3), tmp_path / "b")


def test_bad_designs(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StudyError, match="needs images or reports"):
        prepare(drawn_candidates(3), Design(images=0, reports=0), tmp_path / "empty")
    with pytest.raises(StudyError, match="holds a study already"):
        prepare(drawn_candidates(3), Design(images=2, reports=1), folder)
    undrawn = [replace(c, drawn=None) for c in drawn_candidates(4)]
    with pytest.raises(StudyError, match="only 0 patients for 1 generated"):
        prepare(undrawn, Design(images=2, reports=0), tmp_path / "undrawn")


def test_every_reader_has_an_order_of_their_own_and_keeps_it(study: Study) -> None:
    orders = {
        name: tuple(case.id for case in order_for(study, name)) for name in ("Ada", "Bo", "Cy")
    }
    assert len(set(orders.values())) == 3
    assert tuple(c.id for c in order_for(study, "Ada")) == orders["Ada"]
    key = study.open_key()
    for order in orders.values():
        assert sorted(order) == sorted(study.cases)
        assert [study.cases[i].kind for i in order] == ["image"] * 10 + ["report"] * 5
        for id_, truth in key.items():
            if truth.repeats is not None:
                assert order.index(truth.repeats) < order.index(id_)


@pytest.mark.parametrize("change", ["picture", "missing picture", "study", "no json", "key"])
def test_a_changed_study_is_refused(folder: Path, change: str) -> None:
    study = Study.open(folder)
    picture = folder / next(iter(study.cases.values())).image
    if change == "picture":
        Image.fromarray(np.zeros((256, 256), np.uint8)).save(picture)
    elif change == "missing picture":
        picture.unlink()
    elif change == "study":
        content = json.loads((folder / STUDY_JSON).read_text())
        content["title"] = "Another"
        (folder / STUDY_JSON).write_text(json.dumps(content))
    elif change == "no json":
        (folder / STUDY_JSON).write_text("{}")
    else:
        key = json.loads((folder / KEY_JSON).read_text())
        one = next(t for t in key["cases"].values() if t["generated"] is not None)
        one["generated"] = not one["generated"]
        (folder / KEY_JSON).write_text(json.dumps(key))
        with pytest.raises(StudyError, match=r"key\.json is not the file"):
            study.open_key()
        return
    with pytest.raises(StudyError, match=r"prepared|missing|damaged"):
        Study.open(folder)


def test_the_key_may_be_kept_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / KEY_JSON).rename(tmp_path / "kept.json")
    study = Study.open(folder)
    with pytest.raises(StudyError, match="missing"):
        study.open_key()
    assert len(study.open_key(tmp_path / "kept.json")) == len(study.cases)
