"""Drawing steps: reports come to matter for what is drawn, all else stays, runs resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from llmcxr_training.compute import Budget
from llmcxr_training.data import DataError
from llmcxr_training.drawing_steps import DrawingSteps, DrawingTeacher
from llmcxr_training.finding_steps import FindingSteps
from llmcxr_training.finetune import FinetuningRun
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.run_state import load_state
from llmcxr_training.stage import finetune

MakeConfig = Callable[..., Finetuning]
CONSTANT = {"warmup_steps": 0, "final_learning_rate_share": 1.0}
STEPS = DrawingSteps(
    pairs=4, pairs_at_once=2, upper_layers=1, learning_rate=5e-3, image_learning_rate=5e-3
)


def prepared(make_config: MakeConfig, **changed: object) -> FinetuningRun:
    """A run that has taken no step."""
    return finetune(make_config(steps=0, **({"drawing_steps": STEPS} | changed)))


def teacher(run: FinetuningRun) -> DrawingTeacher:
    (found,) = run.teachers
    assert isinstance(found, DrawingTeacher)
    return found


def weights(run: FinetuningRun) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.trained_state().items()}


def test_what_reports_say_comes_to_matter(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    studies = run.config.data.studies(("train",))
    untaught = teacher(run).measure(studies)["drawing_share"]
    for number in range(150):
        teacher(run).steps(number, 1.0, 1.0)
    assert untaught == pytest.approx(0.0, abs=0.05)
    assert 0.3 < teacher(run).measure(studies)["drawing_share"] < 1.1


def test_a_moved_middle_is_held_against_it_and_is_no_difference(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    in_place = teacher(run).steps(0, 0.0, 1.0)
    with torch.no_grad():
        run.model.image_head.normal_(std=0.1)
    assert teacher(run).steps(0, 0.0, 1.0) > 1.5 * in_place
    share = teacher(run).measure(run.config.data.studies(("train",)))["drawing_share"]
    assert abs(share) < 0.2


def test_a_resumed_run_is_the_uninterrupted_one(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = {"drawing_steps": STEPS} | CONSTANT
    whole = finetune(make_config(steps=4, output=tmp_path / "whole", **settings))
    for steps in (1, 3, 4):
        parts = finetune(make_config(steps=steps, output=tmp_path / "parts", **settings))
    assert all(torch.equal(t, weights(parts)[n]) for n, t in weights(whole).items())


def test_both_kinds_of_steps_go_together(make_config: MakeConfig) -> None:
    finding = FindingSteps(layers=1, steps=1, batch_size=4, least_positives=2)
    run = finetune(make_config(steps=1, drawing_steps=STEPS, finding_steps=finding))
    state = load_state(run.config.output)
    assert state is not None
    assert set(state["teachers"]) == {"finding", "drawing"}
    assert {"finding_loss", "drawing_loss"} <= run.train_step().keys()


def test_only_the_upper_layers_and_output_rows_are_taught(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    before = weights(run)
    for number in range(3):
        teacher(run).steps(number, 1.0, 1.0)
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert "image_head" in moved
    assert all(name == "image_head" or ".layers.1." in name for name in moved)
    assert any(".layers.1." in name for name in moved)


def test_a_stage_may_be_of_these_steps_alone(make_config: MakeConfig) -> None:
    settings = {"drawing_steps": STEPS, "whole_steps": False}
    before = weights(prepared(make_config, **settings))
    run = finetune(make_config(steps=2, **settings))
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name == "image_head" or ".layers.1." in name for name in moved)


def test_a_stage_of_no_steps_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match="without whole_steps there must be"):
        make_config(whole_steps=False)


def test_lower_and_upper_layers_make_the_whole(make_config: MakeConfig) -> None:
    model = prepared(make_config).model
    token_ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        lower = model.lower_states(token_ids, 1, normalised=False)
        whole = model.hidden_states(token_ids)
        torch.testing.assert_close(model.upper_states(lower, 1), whole)


def test_a_step_that_is_not_finite_changes_nothing(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    with torch.no_grad():
        run.model.image_head[0, 0] = torch.nan
    before = weights(run)
    with pytest.raises(FloatingPointError, match="drawing step"):
        teacher(run).steps(0, 1.0, 1.0)
    for name, tensor in weights(run).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_a_state_of_other_layers_is_refused(make_config: MakeConfig) -> None:
    finetune(make_config(steps=1, drawing_steps=STEPS))
    state = load_state(make_config().output)
    assert state is not None
    state["teachers"]["drawing"]["optimizer"]["param_groups"].pop()
    with pytest.raises(DataError, match="other drawing_steps"):
        teacher(prepared(make_config)).load(state["teachers"]["drawing"])


def test_an_unknown_finding_is_refused(make_config: MakeConfig) -> None:
    odd = STEPS.model_copy(update={"findings": ("Cardiomegaly", "Halo")})
    with pytest.raises(DataError, match="no findings: Halo"):
        prepared(make_config, drawing_steps=odd)


def test_reports_with_and_without_findings_are_needed(make_config: MakeConfig) -> None:
    rare = STEPS.model_copy(update={"findings": ("Pneumothorax",)})
    with pytest.raises(DataError, match="reports with findings and reports without"):
        prepared(make_config, drawing_steps=rare)


@pytest.mark.parametrize("layers", [2, 30])
def test_all_layers_are_refused(make_config: MakeConfig, layers: int) -> None:
    with pytest.raises(DataError, match="not its lower ones"):
        prepared(make_config, drawing_steps=STEPS.model_copy(update={"upper_layers": layers}))


def test_a_budget_would_not_count_them(make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match="does not count drawing_steps"):
        make_config(drawing_steps=STEPS, budget=Budget(unit="tokens", amount=1000))
