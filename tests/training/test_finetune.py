"""Fine-tuning: exact to resume, the same whatever the micro batch, and learning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError
from tests.training.conftest import DataSet, write_lines, write_vqgan
from torch import Tensor

from llmcxr_models.prompt import Task
from llmcxr_training.batches import anchored, collate
from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.finetune import FinetuningRun
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.instructions import Example, Mixing
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.refinement import Refinement, View
from llmcxr_training.run_state import load_state
from llmcxr_training.stage import encode, finetune

MakeConfig = Callable[..., Finetuning]
CONSTANT = {"warmup_steps": 0, "final_learning_rate_share": 1.0}
"""With a schedule, a shorter run is not the beginning of a longer one."""


def weights(run: FinetuningRun) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in run.model.trained_state().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_a_resumed_run_is_the_uninterrupted_one(make_config: MakeConfig, tmp_path: Path) -> None:
    whole = finetune(make_config(steps=6, output=tmp_path / "whole", **CONSTANT))
    for steps in (1, 4, 6):
        parts = finetune(make_config(steps=steps, output=tmp_path / "parts", **CONSTANT))
    assert parts.step == whole.step == 6
    assert same(weights(whole), weights(parts))
    one, other = (load_state(tmp_path / n) for n in ("whole", "parts"))
    assert one is not None
    assert other is not None
    for key, moments in one["optimizer"]["state"].items():
        assert same(moments, other["optimizer"]["state"][key])


def test_a_run_that_was_killed_between_saves_goes_on_from_the_last(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(steps=6, output=tmp_path / "killed")
    whole = finetune(make_config(steps=6, output=tmp_path / "whole"))
    killed = _prepared(config)
    for step in range(5):
        killed.train_step()
        killed.step += 1
        if step == 2:
            killed.save()
    assert same(weights(whole), weights(finetune(config)))


def test_a_finished_run_is_left_as_it_is(make_config: MakeConfig) -> None:
    done = finetune(make_config(steps=2))
    again = finetune(make_config(steps=2))
    assert again.step == 2
    assert same(weights(done), weights(again))


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("anchor_weight", [0.0, 2.0])
def test_the_micro_batch_changes_only_rounding(
    make_config: MakeConfig, tmp_path: Path, size: int, anchor_weight: float
) -> None:
    settings = {"batch_size": 6, "anchor_weight": anchor_weight}
    whole, split = (
        _prepared(make_config(micro_batch_size=n, output=tmp_path / str(n), **settings))
        for n in (6, size)
    )
    split.model.load_trained_state(whole.model.trained_state())
    for _ in range(3):
        one, other = whole.train_step(), split.train_step()
        # Zero at first, but for rounding.
        anchors = [losses.pop("anchor_loss", 0.0) for losses in (one, other)]
        assert anchors[1] == pytest.approx(anchors[0], rel=1e-4, abs=1e-6)
        assert other == pytest.approx(one, rel=1e-4)
        whole.step += 1
        split.step += 1
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(split)[name], tensor, rtol=1e-2, atol=1e-4)
    assert split.validate() == pytest.approx(whole.validate(), rel=1e-4)


def test_both_losses_fall(make_config: MakeConfig) -> None:
    run = _prepared(make_config(steps=20, learning_rate=1e-2, image_learning_rate=1e-2))
    before = run.validate()
    first = run.train_step()
    for _ in range(19):
        run.step += 1
        last = run.train_step()
    after = run.validate()
    assert last["text_loss"] < first["text_loss"]
    assert last["image_loss"] < first["image_loss"]
    assert after["val_text_loss"] < 0.95 * before["val_text_loss"]


PLAIN = {"mixing": Mixing(image_to_text=0, report_to_image=0, instructions=1)}
FAST = {"steps": 12, "learning_rate": 1e-2, **CONSTANT}


def test_an_anchor_is_zero_at_the_base_model_and_holds_the_language_there(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    drifts = []
    for weight in (1e-9, 30.0):
        output = tmp_path / str(weight)
        run = _prepared(make_config(anchor_weight=weight, output=output, **FAST, **PLAIN))
        assert run.train_step()["anchor_loss"] == pytest.approx(0.0, abs=1e-6)
        for _ in range(11):
            run.step += 1
            drift = run.train_step()["anchor_loss"]
        drifts.append(drift)
    free, held = drifts
    assert held < 0.3 * free


def test_without_adapters_the_model_is_the_base_model(make_config: MakeConfig) -> None:
    run = _prepared(make_config(**FAST))
    token_ids = torch.arange(12).view(1, 12)
    before = run.model.hidden_states(token_ids)
    trained = {name for name, p in run.model.named_parameters() if p.requires_grad}
    run.train_step()
    assert not torch.equal(run.model.hidden_states(token_ids), before)
    with run.model.without_adapters():
        torch.testing.assert_close(run.model.hidden_states(token_ids), before)
    assert not torch.equal(run.model.hidden_states(token_ids), before)
    assert {name for name, p in run.model.named_parameters() if p.requires_grad} == trained


def test_an_anchor_begins_at_its_step_and_resumes(make_config: MakeConfig, tmp_path: Path) -> None:
    settings = {"anchor_weight": 2.0, "anchor_from_step": 2, **CONSTANT}
    whole = finetune(make_config(steps=5, output=tmp_path / "whole", **settings))
    for steps in (1, 3, 5):
        parts = finetune(make_config(steps=steps, output=tmp_path / "parts", **settings))
    assert same(weights(whole), weights(parts))
    for steps, alike in ((2, True), (5, False)):
        free = finetune(make_config(steps=steps, output=tmp_path / "free", **CONSTANT))
        held = finetune(make_config(steps=steps, output=tmp_path / "held", **settings))
        assert same(weights(free), weights(held)) == alike


def test_an_anchor_looks_at_plain_language_only() -> None:
    plain = Example(Task.INSTRUCTION, [5, 6, 7], [0.0, 0.0, 1.0])
    image = Example(Task.IMAGE, [8] * 4, [1.0] * 4)
    chosen = anchored([image, plain])
    assert chosen is not None
    assert chosen.int().tolist() == [[0] * 4, [0, 1, 1, 0]]
    assert anchored([image]) is None


def test_an_anchor_needs_adapters(make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match="adapters"):
        Finetuning.model_validate(make_config(lora=None).model_dump() | {"anchor_weight": 1.0})


def test_validation_patients_are_never_trained_on(make_config: MakeConfig) -> None:
    run = _prepared(make_config())
    seen = {
        part: {tuple(sampler.draw(0, n).token_ids) for n in range(200)}
        for part, sampler in (("train", run.training), ("val", run.validation))
    }
    assert (len(run.training), len(run.validation)) == (10, 3)
    assert not seen["train"] & seen["val"]


def test_validation_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    often = finetune(make_config(output=tmp_path / "often", validate_every_steps=1))
    never = finetune(make_config(output=tmp_path / "never"))
    assert same(weights(often), weights(never))


def test_epochs_count_radiographs(make_config: MakeConfig) -> None:
    assert finetune(make_config(epochs=0.5, batch_size=2, micro_batch_size=2)).step == 3


def test_codes_can_be_made_before(make_config: MakeConfig) -> None:
    config = make_config(steps=0)
    (codes,) = encode(config).glob("codes-*.npz")
    made = codes.stat().st_mtime_ns
    finetune(config)
    assert [path.stat().st_mtime_ns for path in config.vqgan.glob("codes-*.npz")] == [made]


@pytest.mark.parametrize(
    ("first_views", "refined"),
    [
        (("frontal", "lateral"), Refinement(first_study_only=True, sections="impression")),
        (("frontal",), Refinement(mentions=("Pleural Effusion",))),
    ],
)
def test_a_refined_stage_uses_the_codes_of_the_first(
    make_config: MakeConfig, tmp_path: Path, first_views: tuple[View, ...], refined: Refinement
) -> None:
    first = make_config(steps=1, refinement=Refinement(views=first_views))
    finetune(first)
    second = make_config(
        steps=1, initial=first.output, output=tmp_path / "second", refinement=refined
    )
    run = finetune(second)
    assert len(list(first.vqgan.glob("codes-*.npz"))) == 1
    assert run.step == 1


def test_codes_of_fewer_views_are_not_enough(
    make_config: MakeConfig, data_set: DataSet, tmp_path: Path
) -> None:
    records = [json.loads(line) for line in data_set.manifest.read_text().splitlines()]
    records = [r | {"view": "lateral" if n % 2 else "PA"} for n, r in enumerate(records)]
    manifest = data_set.manifest.with_name("two-views.jsonl")
    write_lines(manifest, records)
    data = JsonlData(manifest=manifest)
    first = make_config(steps=0, data=data)
    finetune(first)
    laterals = {"refined": Refinement(views=("lateral",)), "refined_share": 0.5}
    finetune(make_config(steps=0, data=data, output=tmp_path / "second", **laterals))
    frontal, both = sorted(
        len(EncodedImages.load(path).ids) for path in first.vqgan.glob("codes-*.npz")
    )
    assert 0 < frontal < both


def test_a_second_stage_starts_from_the_first(make_config: MakeConfig, tmp_path: Path) -> None:
    first = finetune(make_config(output=tmp_path / "one"))
    second = make_config(output=tmp_path / "two", initial=tmp_path / "one", steps=0)
    run = finetune(second)
    assert run.step == 0
    assert same(weights(first), weights(run))
    with pytest.raises(FileNotFoundError):
        finetune(make_config(output=tmp_path / "three", initial=tmp_path / "none"))


def test_without_adapters_every_weight_moves_and_resumes(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    settings = {"lora": None, **CONSTANT}
    whole = finetune(make_config(steps=3, output=tmp_path / "whole", **settings))
    for steps in (2, 3):
        parts = finetune(make_config(steps=steps, output=tmp_path / "parts", **settings))
    assert same(weights(whole), weights(parts))
    fresh = _prepared(make_config(output=tmp_path / "fresh", **settings))
    assert all(not torch.equal(t, weights(fresh)[n]) for n, t in weights(whole).items())


def test_a_changed_learning_rate_is_obeyed_when_resumed(make_config: MakeConfig) -> None:
    finetune(make_config(steps=2))
    run = finetune(make_config(steps=3, learning_rate=0.0, image_learning_rate=0.0))
    state = load_state(run.config.output)
    assert state is not None
    assert [group["lr"] for group in state["optimizer"]["param_groups"]] == [0.0, 0.0]


def test_a_run_that_diverges_stops_and_keeps_its_state(make_config: MakeConfig) -> None:
    finetune(make_config(steps=1))
    with pytest.raises(FloatingPointError, match="step"):
        finetune(make_config(steps=9, learning_rate=1e30, warmup_steps=0))
    state = load_state(make_config().output)
    assert state is not None
    assert state["step"] == 1
    assert all(t.isfinite().all() for t in state["model"].values())


def test_adapters_of_another_rank_are_refused(make_config: MakeConfig) -> None:
    run = finetune(make_config(steps=1))
    assert run.config.lora is not None
    changed = run.config.lora.model_copy(update={"rank": 2})
    with pytest.raises(DataError, match="another"):
        finetune(make_config(steps=2, lora=changed))


def test_another_vqgan_is_noticed(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=1)
    finetune(config)
    other = write_vqgan(tmp_path / "other", seed=8)
    with pytest.raises(DataError, match="another VQ-GAN"):
        finetune(make_config(steps=2, vqgan=other))
    with pytest.raises(DataError, match="another VQ-GAN"):
        finetune(make_config(output=tmp_path / "two", initial=config.output, vqgan=other))
    assert load_state(config.output)["step"] == 1  # type: ignore[index]


def test_codes_are_kept_and_made_again_for_other_weights(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(steps=1)
    finetune(config)
    (codes,) = config.vqgan.glob("codes-*.npz")
    made = codes.stat().st_mtime_ns
    finetune(make_config(steps=2))
    assert [codes] == list(config.vqgan.glob("codes-*.npz"))
    assert codes.stat().st_mtime_ns == made
    other = write_vqgan(tmp_path / "other", seed=8)
    (other / "vqgan.safetensors").replace(config.vqgan / "vqgan.safetensors")
    finetune(make_config(steps=1, output=tmp_path / "again"))
    assert len(list(config.vqgan.glob("codes-*.npz"))) == 2


def test_bfloat16_gives_nearly_the_same_losses(make_config: MakeConfig, tmp_path: Path) -> None:
    exact, short = (
        _prepared(make_config(precision=p, output=tmp_path / p)) for p in ("float32", "bfloat16")
    )
    assert short.train_step() == pytest.approx(exact.train_step(), rel=0.02)
    assert all(t.isfinite().all() for t in weights(short).values())


def test_batches_are_padded_with_weight_zero() -> None:
    examples = [Example(Task.REPORT, [5, 6, 7], [0.0, 0.5, 1.0]), Example(Task.IMAGE, [8], [1.0])]
    token_ids, loss_weights, branches = collate(examples)
    assert token_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert loss_weights.tolist() == [[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]
    assert branches is None
    branched = Example(Task.QUESTION, [1, 2, 3, 4], [0.0, 0.0, 1.0, 0.0], [0, 1, 1, 2])
    _, _, branches = collate([*examples, branched, replace(branched, branches=[0, 1, 1, 1])])
    assert branches is not None
    assert branches.tolist() == [[0] * 4, [0] * 4, [0, 1, 1, 2], [0, 1, 1, 1]]
    _, _, branches = collate([branched, Example(Task.IMAGE, [8] * 6, [1.0] * 6)])
    assert branches is not None
    assert branches.tolist() == [[0, 1, 1, 2, 3, 3], [0] * 6]  # padding is one more branch


def test_a_batch_without_images_has_no_image_loss(make_config: MakeConfig) -> None:
    mixing = Mixing(image_to_text=0, report_to_image=0, instructions=1)
    metrics = _prepared(make_config(mixing=mixing)).train_step()
    assert metrics["image_loss"] == 0.0
    assert metrics["text_loss"] > 0.0


def _prepared(config: Finetuning) -> FinetuningRun:
    """A run before its first step: prepared by a stage of no steps, whose state is removed."""
    run = finetune(config.model_copy(update={"steps": 0}))
    (config.output / "state.pt").unlink()
    assert isinstance(run.config, BaseModel)
    assert isinstance(run.model, ImageTextModel)
    run.config = config
    return run
