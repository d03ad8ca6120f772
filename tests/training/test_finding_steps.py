"""Steps in between: they teach lower layers only, resume bit for bit, and refuse what is odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from llmcxr_training.compute import Budget
from llmcxr_training.data import DataError
from llmcxr_training.encode_images import Augmentation
from llmcxr_training.finding_steps import FindingReadout, FindingSteps, FindingTeacher
from llmcxr_training.finetune import FinetuningRun
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.run_state import load_state
from llmcxr_training.stage import finetune

MakeConfig = Callable[..., Finetuning]
CONSTANT = {"warmup_steps": 0, "final_learning_rate_share": 1.0}
STEPS = FindingSteps(layers=1, steps=2, batch_size=4, least_positives=2)


def prepared(make_config: MakeConfig, **changed: object) -> FinetuningRun:
    """A run that has taken no step."""
    return finetune(make_config(steps=0, **({"finding_steps": STEPS} | changed)))


def teacher(run: FinetuningRun) -> FindingTeacher:
    (found,) = run.teachers
    assert isinstance(found, FindingTeacher)
    return found


def weights(run: FinetuningRun) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.trained_state().items()}


def test_a_resumed_run_is_the_uninterrupted_one(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = {"finding_steps": STEPS} | CONSTANT
    whole = finetune(make_config(steps=4, output=tmp_path / "whole", **settings))
    for steps in (1, 3, 4):
        parts = finetune(make_config(steps=steps, output=tmp_path / "parts", **settings))
    one, other = (load_state(tmp_path / name) for name in ("whole", "parts"))
    assert one is not None
    assert other is not None
    assert all(torch.equal(t, weights(parts)[n]) for n, t in weights(whole).items())
    for name, tensor in one["teachers"]["finding"]["readout"].items():
        assert torch.equal(tensor, other["teachers"]["finding"]["readout"][name])


def test_only_the_lower_layers_and_the_image_rows_are_taught(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    before = weights(run)
    for number in range(3):
        teacher(run).steps(number, 1.0, 1.0)
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert "image_rows" in moved
    assert all(n == "image_rows" or ".layers.0." in n for n in moved)
    assert any(".layers.0." in name for name in moved)


def test_the_readout_learns_what_the_codes_tell(make_config: MakeConfig) -> None:
    settings = STEPS.model_copy(update={"learning_rate": 1e-2, "readout_learning_rate": 1e-2})
    run = prepared(make_config, finding_steps=settings, augmentation=Augmentation(versions=1))
    first = teacher(run).steps(0, 1.0, 1.0)
    for number in range(1, 50):
        last = teacher(run).steps(number, 1.0, 1.0)
    assert last < 0.5 * first


def test_the_model_has_all_its_layers_afterwards(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    token_ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        before = run.model.hidden_states(token_ids)
        lower = run.model.lower_states(token_ids, 1)
        after = run.model.hidden_states(token_ids)
    assert torch.equal(before, after)
    assert not torch.equal(before, lower)


def test_the_readout_attends_where_its_finding_is() -> None:
    readout = FindingReadout(width=8, length=5, findings=3)
    states = torch.randn(2, 5, 8)
    assert torch.equal(readout(states), torch.zeros(2, 3))  # nothing is said before training
    with torch.no_grad():
        readout.places[1, 4] = 1e4
        readout.answers[1] = torch.eye(8)[0]
    expected = 4.0 * readout.norm(states)[:, 4, 0]
    torch.testing.assert_close(readout(states)[:, 1], expected)
    assert torch.equal(readout(states)[:, 0], torch.zeros(2))


def test_the_log_has_the_loss_and_the_readout(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    assert run.train_step()["finding_loss"] > 0.0
    # Three patients of validation: no finding has ten positives, and none is told.
    assert teacher(run).measure(run.config.data.studies(("val",))) == {}


def test_a_run_may_begin_with_them_later(make_config: MakeConfig) -> None:
    finetune(make_config(steps=1))
    later = finetune(make_config(steps=2, finding_steps=STEPS))
    assert later.step == 2
    state = load_state(later.config.output)
    assert state is not None
    assert "finding" in state["teachers"]


def test_a_state_of_other_finding_steps_is_refused(make_config: MakeConfig) -> None:
    finetune(make_config(steps=1, finding_steps=STEPS))
    changed = STEPS.model_copy(update={"least_positives": 100})
    with pytest.raises(DataError, match="other finding_steps"):
        finetune(make_config(steps=2, finding_steps=changed))


def test_learning_rates_may_change_on_the_way(make_config: MakeConfig) -> None:
    finetune(make_config(steps=1, finding_steps=STEPS))
    changed = STEPS.model_copy(update={"readout_learning_rate": 5e-4})
    run = finetune(make_config(steps=2, finding_steps=changed))
    peaks = [group["peak"] for group in teacher(run).state()["optimizer"]["param_groups"]]
    assert peaks == [STEPS.learning_rate, STEPS.image_learning_rate, 5e-4]


@pytest.mark.parametrize("layers", [2, 30])
def test_more_layers_than_lower_ones_are_refused(make_config: MakeConfig, layers: int) -> None:
    with pytest.raises(DataError, match="not its lower ones"):
        prepared(make_config, finding_steps=STEPS.model_copy(update={"layers": layers}))


def test_too_few_radiographs_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(DataError, match="fewer radiographs"):
        prepared(make_config, finding_steps=STEPS.model_copy(update={"batch_size": 1000}))


def test_a_budget_would_not_count_them(make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match="does not count finding_steps"):
        make_config(finding_steps=STEPS, budget=Budget(unit="tokens", amount=1000))


def test_a_step_that_is_not_finite_changes_nothing(make_config: MakeConfig) -> None:
    run = prepared(make_config)
    before = weights(run)
    with torch.no_grad():
        teacher(run).readout.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="finding step"):
        teacher(run).steps(0, 1.0, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run).items())
