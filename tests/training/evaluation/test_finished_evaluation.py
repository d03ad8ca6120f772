"""From a finished evaluation to a reader study: its own answers, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.reader_study.finished import FinishedEvaluation
from llmcxr_training.reader_study.prepare import Design, prepare
from llmcxr_training.reader_study.study import StudyError

WRITTEN = "Findings: The heart is huge. Impression: Cardiomegaly."


@pytest.fixture
def finished(checkpoint_path: Path, settings: Evaluation) -> Path:
    model = ScriptedModel(Checkpoint.open(checkpoint_path), WRITTEN)
    evaluate(checkpoint_path, settings, lambda: model)
    return settings.output


def test_a_study_of_an_evaluation(finished: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    opened = FinishedEvaluation.open(checkpoint_path, finished)
    candidates = opened.candidates()
    assert len(candidates) == 20
    for candidate in candidates:
        assert candidate.written.findings == "The heart is huge."
        assert candidate.reference.impression
        assert candidate.drawn is not None
    drawn = candidates[0].drawn()
    assert (drawn.dtype, drawn.shape) == (np.uint8, (32, 32))
    design = Design(images=6, reports=4, repeats=0)
    study = prepare(candidates, design, tmp_path / "study", opened.provenance)
    assert study.file.provenance["evaluation"]["split"] == "test"
    by_study = {c.study_id: c for c in candidates}
    for id_, truth in study.open_key().items():
        shown = np.asarray(Image.open(study.folder / study.cases[id_].image))
        candidate = by_study[truth.study_id]
        assert candidate.drawn is not None
        expected = candidate.drawn() if truth.generated else candidate.image
        assert np.array_equal(shown, expected)
        if study.cases[id_].reports is not None:
            first = study.cases[id_].reports[0]
            assert (first.findings == "The heart is huge.") == truth.generated_first


def test_an_evaluation_that_was_moved(
    finished: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved" / "results"
    moved.parent.mkdir()
    finished.rename(moved)
    assert len(FinishedEvaluation.open(checkpoint_path, moved).candidates()) == 20


def test_what_is_no_finished_evaluation(
    finished: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match="no finished evaluation"):
        FinishedEvaluation.open(checkpoint_path, tmp_path)
    (answers,) = (finished / "work").glob("answers-*.jsonl")
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[1:]))
    opened = FinishedEvaluation.open(checkpoint_path, finished)
    with pytest.raises(StudyError, match="answers of the evaluation are missing"):
        opened.candidates()
    evaluation = json.loads((finished / "evaluation.json").read_text())
    evaluation["settings"]["checkpoint"] = "0" * 64
    (finished / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(StudyError, match="another checkpoint"):
        FinishedEvaluation.open(checkpoint_path, finished)
