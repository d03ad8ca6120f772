"""Figures against what is known by construction, and against the literature's own examples."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.training.reader_study.conftest import Tab

from llmcxr_training.reader_study.analysis import analyse
from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.statistics import (
    chance,
    cohen,
    crossed,
    fleiss,
    mean_of_readers,
    proportion,
    signed_rank,
)
from llmcxr_training.reader_study.study import RATINGS, Study, StudyError, Truth


def test_fleiss_own_example() -> None:
    # Fleiss 1971 as worked out at length in Wikipedia's article: 14 raters, 10 subjects, 0.210.
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    table = np.array([np.repeat(np.arange(5), row) for row in counts], np.float64).T
    assert table.shape == (14, 10)
    assert fleiss(table).value == pytest.approx(0.210, abs=5e-4)


def test_cohens_kappa() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, expected 0.5.
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    found = cohen(first, second)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    assert math.isnan(cohen([1.0, 1.0], [1.0, 1.0]).value)
    near, far = cohen([1, 2, 3, 4], [2, 2, 3, 4], weights="quadratic"), cohen([1, 2, 3, 4], [4, 2, 3, 4], weights="quadratic")  # fmt: skip  # noqa: E501
    assert near.value > far.value


def test_wilson_and_the_tests() -> None:
    # Wilson 1927: 81 of 263.
    found = proportion(81, 263)
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    assert chance(5, 10) == pytest.approx(1.0)
    assert chance(10, 10) == pytest.approx(2 / 1024)
    assert chance(0, 0) is None
    assert signed_rank([0.0, 0.0]) is None
    assert (signed_rank([1.0, 2.0, 3.0, 1.0, 2.0, 1.5, 2.5, 1.0]) or 1.0) < 0.05
    assert (signed_rank([1.0, -1.0, 2.0, -2.0]) or 0.0) > 0.5


def test_readers_and_cases_are_drawn() -> None:
    table = np.array([[1.0, 1.0, 0.0, np.nan], [0.0, 0.0, 0.0, 0.0]])
    found = crossed(table, lambda drawn, _: mean_of_readers(drawn), resamples=500)
    assert found.value == pytest.approx((2 / 3 + 0) / 2)
    # A second reader who never says so widens the interval down to 0.
    assert found.low == 0.0
    assert found.high > 0.6
    assert found.n == 7


def answers(truths: dict[str, Truth], *, wrong: bool = False) -> Any:
    """A reader who knows the truth, finds the reference better, and sees what is wrong."""

    def judge(case: dict[str, str]) -> dict[str, Any]:
        truth = truths[case["id"]]
        if case["kind"] == "image":
            generated = bool(truth.generated) is not wrong
            return {"judgement": 4 if generated else 2, "problems": ["texture"] * generated}
        second_is_better = bool(truth.generated_first) is not wrong
        errors: dict[str, Any] = {"first": {}, "second": {}}
        errors["first" if truth.generated_first else "second"] = {"missed_finding": 2}
        return {"preference": 2 if second_is_better else -2, **errors}

    return judge


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "analysis.json").read_text())
    return content


def test_a_reader_who_sees_everything(client: TestClient, study: Study, tmp_path: Path) -> None:
    truths = study.open_key()
    Tab(client, "Ada").finish(answers(truths))
    path = analyse(study.folder, tmp_path / "results", resamples=50)
    found = read(tmp_path / "results")
    ada = found["images"]["by_reader"]["Ada"]
    assert ada["accuracy"]["value"] == 1.0
    assert ada["accuracy"]["n"] == 8  # repetitions do not count twice
    assert ada["p_against_guessing"] == pytest.approx(2 / 256, abs=1e-6)
    assert ada["auc"] == 1.0
    assert found["images"]["all"]["real_called_generated"]["value"] == 0.0
    assert found["images"]["problems"]["texture"]["generated"]["value"] == 1.0
    reports = found["reports"]
    assert reports["by_reader"]["Ada"]["counts"]["reference_much_better"] == 4
    assert reports["all"]["mean"]["value"] == -2.0
    assert reports["all"]["generated_at_least_as_good"]["value"] == 0.0
    missed = reports["errors"]["missed_finding"]["significant"]
    assert (missed["generated"]["value"], missed["reference"]["value"]) == (1.0, 0.0)
    assert missed["difference"]["value"] == 1.0
    assert reports["position"]["first_preferred"]["value"] == 0.5
    assert found["agreement"]["image"]["same_reader"]["Ada"]["same_decision"]["value"] == 1.0
    assert found["readers"]["Ada"] == {
        "cases": 15, "rated": 15, "begun": 0, "median_seconds": 2.5,
    }  # fmt: skip
    assert found["readers"]["R2"]["rated"] == 0
    text = path.read_text(encoding="utf-8")
    assert "| Ada | 1.00 (0.68 to 1.00) | 1.00 |" in text


def test_two_readers_who_contradict_each_other(
    client: TestClient, study: Study, tmp_path: Path
) -> None:
    truths = study.open_key()
    Tab(client, "Ada").finish(answers(truths))
    Tab(client, "R2").finish(answers(truths, wrong=True))
    analyse(study.folder, tmp_path, resamples=50)
    found = read(tmp_path)
    everybody = found["images"]["all"]
    assert everybody["readers"] == 2
    assert everybody["accuracy"]["value"] == 0.5
    assert (everybody["accuracy"]["low"], everybody["accuracy"]["high"]) == (0.0, 1.0)
    pair = found["agreement"]["image"]["pairs"]["Ada / R2"]
    assert pair["same_decision"]["value"] == 0.0
    assert pair["cohen"]["value"] == pytest.approx(-1.0)
    assert found["agreement"]["image"]["fleiss"]["value"] == pytest.approx(-1.0)
    assert found["agreement"]["report"]["fleiss"]["value"] < 0


def test_one_answer_only_has_no_kappa_and_no_test(
    client: TestClient, study: Study, tmp_path: Path
) -> None:
    def same(case: dict[str, str]) -> dict[str, Any]:
        image = case["kind"] == "image"
        return {"judgement": 3} if image else {"preference": 0}

    Tab(client, "Ada").finish(same)
    text = analyse(study.folder, tmp_path, resamples=20).read_text(encoding="utf-8")
    found = read(tmp_path)
    again = found["agreement"]["image"]["same_reader"]["Ada"]
    assert again["cohen"]["value"] is None
    assert again["same_decision"]["value"] == 1.0
    assert found["reports"]["all"]["p_signed_rank_of_case_means"] is None
    assert found["reports"]["by_reader"]["Ada"]["p_sign_test"] is None
    assert "nan" not in text


def test_what_cannot_be_analysed(
    client: TestClient, study: Study, ratings: RatingStore, tmp_path: Path
) -> None:
    tab = Tab(client, "Ada")
    case = tab.case()["case"]["id"]
    with pytest.raises(StudyError, match="nobody has confirmed"):
        analyse(study.folder, tmp_path)
    tab.rate(case, {"kind": "image", "judgement": 1}, final=False)
    with pytest.raises(StudyError, match="nobody has confirmed"):
        analyse(study.folder, tmp_path)
    database = sqlite3.connect(study.folder / RATINGS)
    database.execute("""UPDATE rating SET answer = '{"kind": "image", "judgement": 9}'""")
    database.commit()
    database.close()
    with pytest.raises(StudyError, match="out of range"):
        analyse(study.folder, tmp_path)


def test_a_study_that_nobody_opened(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nobody has rated"):
        analyse(folder, tmp_path)
