"""Picked images: only where the checkpoint has a judge, and beside the first of each prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.judges import drawn_judge, with_judge
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.prompt import Task
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation, Picked

KEY = "image.finding_auroc_picked"


@pytest.fixture
def picking(checkpoint_path: Path, tmp_path: Path) -> Checkpoint:
    """A checkpoint that carries a judge, another one than measures."""
    return Checkpoint.open(with_judge(checkpoint_path, tmp_path / "picking", drawn_judge(seed=3)))


def with_picking(settings: Evaluation, prompts: int, best_of: int) -> Evaluation:
    return settings.model_copy(update={"picked": Picked(prompts=prompts, best_of=best_of)})


def images(model: ScriptedModel) -> int:
    return sum(question.prompt.task is Task.IMAGE for question in model.asked)


def test_picked_images_stand_beside_the_first(picking: Checkpoint, settings: Evaluation) -> None:
    model = ScriptedModel(picking)
    found = evaluate(picking.path, with_picking(settings, 12, 3), lambda: model)
    metrics = found["metrics"]
    assert {KEY, f"{KEY}.cardiomegaly", f"{KEY}.first"} <= set(metrics)
    assert metrics[KEY]["n"] == metrics[f"{KEY}.first"]["n"] == 12
    # Twenty for all other figures; of twelve prompts the first is among them.
    assert images(model) == 20 + 12 * 2
    assert found["settings"]["picked"] == {"prompts": 12, "best_of": 3}
    assert "picked by the checkpoint's judge" in (settings.output / "evaluation.md").read_text()


def test_a_finished_evaluation_asks_nothing_again(
    picking: Checkpoint, settings: Evaluation
) -> None:
    config = with_picking(settings, 6, 2)
    first = evaluate(picking.path, config, lambda: ScriptedModel(picking))
    again = ScriptedModel(picking)
    assert evaluate(picking.path, config, lambda: again)["metrics"] == first["metrics"]
    assert again.asked == []


def test_without_a_judge_nothing_more_is_drawn(checkpoint_path: Path, settings: Evaluation) -> None:
    checkpoint = Checkpoint.open(checkpoint_path)
    model = ScriptedModel(checkpoint)
    found = evaluate(checkpoint_path, with_picking(settings, 12, 3), lambda: model)
    assert images(model) == 20
    assert found["not_measured"][KEY] == "the checkpoint has no judge"
    assert KEY not in found["metrics"]


def test_a_prompt_without_whole_images_is_left_out(
    picking: Checkpoint, settings: Evaluation
) -> None:
    model = ScriptedModel(picking, image_length=3)
    found = evaluate(picking.path, with_picking(settings, 12, 3), lambda: model)
    assert KEY not in found["metrics"]
    assert KEY in found["not_measured"]
