"""The commands, as they are typed."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from llmcxr_training.__main__ import app
from llmcxr_training.reader_study.answers import ANSWER
from llmcxr_training.reader_study.ratings import RatingStore
from llmcxr_training.reader_study.study import RATINGS, Study, StudyError


def run(*arguments: str) -> tuple[str, Exception | None]:
    result = CliRunner().invoke(app, ["reader-study", *arguments])
    error = result.exception
    return result.output, error if isinstance(error, Exception) else None


def test_an_example_study_from_beginning_to_end(tmp_path: Path) -> None:
    folder = str(tmp_path / "study")
    said, error = run("example", folder, "--images", "4", "--reports", "2")
    assert error is None
    assert said.startswith("7 cases in")  # the picture that is a quarter of four comes twice
    _, error = run("analyse", folder)
    assert isinstance(error, StudyError)
    _, error = run("example", folder)
    assert isinstance(error, StudyError)
    study = Study.open(tmp_path / "study")
    store = RatingStore(tmp_path / "study" / RATINGS, study.digest)
    store.add_readers(["Ada"])
    token = store.begin("Ada")
    for case in study.cases.values():
        answer = (
            {"kind": "image", "judgement": 1}
            if case.kind == "image"
            else {"kind": "report", "preference": 0}
        )
        store.save(token, case.id, ANSWER.validate_python(answer), final=True, seconds=1, seen=0)
    store.close()
    said, error = run("analyse", folder, "--output", str(tmp_path / "out"), "--resamples", "20")
    assert error is None
    assert "| Ada | 7 of 7 |" in said
    assert (tmp_path / "out" / "analysis.json").is_file()
    # The study itself stays as it was.
    assert not (tmp_path / "study" / "analysis.json").exists()
