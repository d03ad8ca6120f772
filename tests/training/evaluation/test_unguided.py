"""Guided images, and those of the model alone beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.guidances import GUIDED, with_guidance
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.prompt import Task
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation, ImageSampling

KEY = "image.finding_auroc_unguided"


@pytest.fixture
def guided(checkpoint_path: Path, tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(with_guidance(checkpoint_path, tmp_path / "guided"))


def images(model: ScriptedModel) -> list[Question]:
    return [question for question in model.asked if question.prompt.task is Task.IMAGE]


def test_images_are_guided_as_the_service_guides_them(
    guided: Checkpoint, settings: Evaluation
) -> None:
    model = ScriptedModel(guided)
    found = evaluate(guided.path, settings, lambda: model)
    leaning = [question.guidance for question in images(model) if question.guidance]
    assert leaning
    assert {guidance.strength for guidance in leaning} == {GUIDED.strength}
    assert all(guidance.towards for guidance in leaning)
    assert KEY in found["not_measured"]


def test_a_strength_of_its_own_is_another_answer(guided: Checkpoint, settings: Evaluation) -> None:
    evaluate(guided.path, settings, lambda: ScriptedModel(guided))
    weaker = settings.model_copy(update={"image": ImageSampling(guidance=0.2)})
    model = ScriptedModel(guided)
    evaluate(guided.path, weaker, lambda: model)
    asked = images(model)
    assert asked  # not taken from what was drawn before
    assert {question.guidance.strength for question in asked if question.guidance} == {0.2}
    alone = settings.model_copy(update={"image": ImageSampling(guidance=0.0)})
    model = ScriptedModel(guided)
    evaluate(guided.path, alone, lambda: model)
    assert all(question.guidance is None for question in images(model))


def test_beside_them_the_same_reports_without_guidance(
    guided: Checkpoint, settings: Evaluation
) -> None:
    model = ScriptedModel(guided)
    config = settings.model_copy(update={"unguided_prompts": 12})
    metrics = evaluate(guided.path, config, lambda: model)["metrics"]
    assert {KEY, f"{KEY}.cardiomegaly", f"{KEY}.guided"} <= set(metrics)
    assert metrics[KEY]["n"] == metrics[f"{KEY}.guided"]["n"] == 12
    by_key = {question.key: question for question in images(model)}
    assert len(by_key) == len(images(model))  # nothing is asked twice
    alone = [question for question in by_key.values() if question.guidance is None]
    assert 0 < len(alone) <= 12
    assert "of the model alone" in (settings.output / "evaluation.md").read_text()


def test_nothing_to_compare(checkpoint_path: Path, settings: Evaluation) -> None:
    model = ScriptedModel(Checkpoint.open(checkpoint_path))
    config = settings.model_copy(update={"unguided_prompts": 12})
    found = evaluate(checkpoint_path, config, lambda: model)
    assert found["not_measured"][KEY] == "no report was drawn without guidance"
    assert len(images(model)) == 20
