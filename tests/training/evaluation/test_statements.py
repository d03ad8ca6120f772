"""Reports are asked for as the service asks: stating what the checkpoint itself has answered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint, write_manifest
from llmcxr_models.prompt import Task
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.reader_study.finished import FinishedEvaluation

LINE = "Findings to report: "


@pytest.fixture
def stating(checkpoint_path: Path, tmp_path: Path) -> Checkpoint:
    path = tmp_path / "stating"
    shutil.copytree(checkpoint_path, path)
    manifest = Checkpoint.open(path, verify=False).manifest
    write_manifest(path, replace(manifest, stated_from={"cardiomegaly": 0.5}))
    return Checkpoint.open(path)


def reports(model: ScriptedModel, checkpoint: Checkpoint) -> list[str]:
    tokenizer, images = checkpoint.load_tokenizer(), checkpoint.manifest.vocabulary.image_token_ids
    asked: list[Question] = [q for q in model.asked if q.prompt.task is Task.REPORT]
    return [tokenizer.decode([i for i in q.prompt.token_ids if i not in images]) for q in asked]


def test_each_prompt_states_its_own_answers(stating: Checkpoint, settings: Evaluation) -> None:
    model = ScriptedModel(stating)
    evaluate(stating.path, settings, lambda: model)
    prompts = reports(model, stating)
    stated = {text.split(LINE)[1].split("\n")[0].split(".")[0] for text in prompts}
    assert stated == {"cardiomegaly", "none"}  # the scripted answers say both
    questions = [q.key for q in model.asked if q.prompt.task is Task.QUESTION]
    assert len(questions) == len(set(questions))  # those of `findings.*`, asked once


def test_a_checkpoint_that_states_nothing(checkpoint_path: Path, settings: Evaluation) -> None:
    checkpoint = Checkpoint.open(checkpoint_path)
    model = ScriptedModel(checkpoint)
    evaluate(checkpoint_path, settings, lambda: model)
    assert not any(LINE in text for text in reports(model, checkpoint))


def test_a_reader_study_finds_its_answers(stating: Checkpoint, settings: Evaluation) -> None:
    evaluate(stating.path, settings, lambda: ScriptedModel(stating))
    assert len(FinishedEvaluation.open(stating.path, settings.output).candidates()) == 20
