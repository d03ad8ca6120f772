"""A VQ-GAN run with everything switched on: averages, feature networks, codes that stand still."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training.conftest import TINY_VQGAN, DataSet, write_lines, write_record
from tests.training.test_feature_networks import write_judge
from tests.training.test_vqgan_training import config, prepared, same

from llmcxr_training.data import read_manifest
from llmcxr_training.run_state import load_state, save_state
from llmcxr_training.train_vqgan import train_vqgan
from llmcxr_training.trained_vqgan import TrainedVqGan
from llmcxr_training.vqgan_preview import (
    grid_excess,
    picture_grid,
    preview_rows,
    reconstruction_quality,
)

CODES = ("encoder.", "quant_conv.", "quantize.")


def everything(judge: Path) -> dict[str, Any]:
    return {
        "texture_weight": 0.1,
        "perceptual_network": judge,
        "perceptual_weight": 0.2,
        "clinical_network": judge,
        "clinical_weight": 0.1,
        "feature_matching_weight": 0.1,
        "average_decay": 0.5,
        "freeze_codes_at": 4,
    }


def test_a_resumed_run_with_every_term_is_the_uninterrupted_one(
    data_set: DataSet, tmp_path: Path
) -> None:
    write_judge(tmp_path / "judge")
    changed = everything(tmp_path / "judge")
    train_vqgan(config(data_set, tmp_path / "whole", **changed))
    for steps in (2, 4, 5, 6):  # before, at and after the codes stand still
        train_vqgan(config(data_set, tmp_path / "parts", steps=steps, **changed))
    one, other = (load_state(tmp_path / n) for n in ("whole", "parts"))
    assert one is not None
    assert other is not None
    assert same(one | {"seconds": 0}, other | {"seconds": 0})
    assert one["frozen"]
    whole, parts = ((tmp_path / n / "vqgan.safetensors").read_bytes() for n in ("whole", "parts"))
    assert whole == parts


def test_every_term_is_heard(data_set: DataSet, tmp_path: Path) -> None:
    write_judge(tmp_path / "judge")
    changed = everything(tmp_path / "judge") | {"freeze_codes_at": None}
    run = prepared(config(data_set, tmp_path / "run", **changed))
    assert len(run.networks) == 1  # one judge serves both terms
    run.step = 3
    metrics = run.train_step()
    named = {"l1", "edge", "texture", "perceptual", "clinical", "commit", "matching", "adv_weight"}
    assert named <= metrics.keys()
    assert all(torch.tensor(list(metrics.values())).isfinite())


def test_codes_that_stand_still_while_the_decoder_learns(data_set: DataSet, tmp_path: Path) -> None:
    settings = config(data_set, tmp_path / "run", freeze_codes_at=3, average_decay=0.5)
    run = prepared(settings)
    for run.step in range(3):
        run.train_step()
    averaged = {k: v.clone() for k, v in run.average.state_dict().items()}
    for run.step in range(3, 6):
        assert "commit" not in run.train_step()
    for name, value in run.vqgan.state_dict().items():
        # From the average, which is what is exported: the codes of then are the last run's codes.
        if name.startswith(CODES):
            assert torch.equal(value, averaged[name]), name
            assert torch.equal(value, run.average.state_dict()[name]), name
    moved = "decoder.conv_out.weight"
    assert not torch.equal(run.vqgan.state_dict()[moved], averaged[moved])


def test_codes_move_again_when_the_configuration_says_so(data_set: DataSet, tmp_path: Path) -> None:
    train_vqgan(config(data_set, tmp_path / "run", steps=3, freeze_codes_at=1))
    frozen = load_state(tmp_path / "run")
    train_vqgan(config(data_set, tmp_path / "run", steps=4))
    after = load_state(tmp_path / "run")
    assert frozen is not None
    assert after is not None
    assert (frozen["frozen"], after["frozen"]) == (True, False)
    name = "encoder.conv_in.weight"
    assert not torch.equal(frozen["vqgan"][name], after["vqgan"][name])


def test_a_state_without_an_average_starts_it_from_the_weights(
    data_set: DataSet, tmp_path: Path
) -> None:
    train_vqgan(config(data_set, tmp_path / "run", steps=3))
    state = load_state(tmp_path / "run")
    assert state is not None
    old = {k: v for k, v in state.items() if k not in ("average", "frozen")}
    save_state(tmp_path / "run", old)
    train_vqgan(config(data_set, tmp_path / "run", steps=3))
    assert same(TrainedVqGan.load(tmp_path / "run").vqgan.state_dict(), old["vqgan"])
    train_vqgan(config(data_set, tmp_path / "run", steps=5))


def test_reconstructions_are_shown(data_set: DataSet, tmp_path: Path) -> None:
    train_vqgan(config(data_set, tmp_path / "run", steps=2, preview_every_steps=2))
    assert (tmp_path / "run" / "preview-000002.png").is_file()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    (picture,) = events.Images("val_reconstructions")
    assert (picture.step, picture.height, picture.width) == (2, 64, 3 * 32)
    assert "val_psnr_db" in events.Tags()["scalars"]


def test_frontal_and_lateral_pictures_are_shown(tmp_path: Path) -> None:
    views = ["lateral", *["PA"] * 6, "lateral", "lateral"]
    records = [write_record(tmp_path, n, view=view) for n, view in enumerate(views)]
    write_lines(tmp_path / "m.jsonl", records)
    studies = read_manifest(tmp_path / "m.jsonl", splits=("train",))
    rows = preview_rows(studies, range(1, len(studies)))
    assert rows == [1, 2, 3, 4, 7, 8]


def test_the_grid_has_radiographs_over_reconstructions() -> None:
    real, fake = torch.ones(3, 1, 8, 8), -torch.ones(3, 1, 8, 8)
    grid = picture_grid(real, fake)
    assert grid.shape == (16, 24)
    assert grid[:8].min() == 255
    assert grid[8:].max() == 0


def test_figures_that_small_pictures_do_not_have() -> None:
    real = torch.rand(2, 1, 176, 176) * 2 - 1
    whole = reconstruction_quality(real, 0.5 * real)
    assert whole["val_high_frequency_ratio"] == pytest.approx(0.25, rel=1e-3)
    assert 0 < whole["val_ms_ssim"] < 1
    small = real[..., :48, :48]
    assert list(reconstruction_quality(small, small)) == ["val_psnr_db", "val_grid_excess"]


def test_blocks_are_told_from_structure() -> None:
    noise = torch.rand(4, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    blocks = noise[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2)
    columns = noise[..., ::8].repeat_interleave(8, -1)
    assert grid_excess(noise) < 1.1
    assert grid_excess(blocks) > 1.8
    assert grid_excess(columns) > 3
    same = reconstruction_quality(noise, noise)["val_grid_excess"]
    assert same == pytest.approx(1.0)


@pytest.mark.parametrize("term", ["perceptual", "clinical"])
def test_a_weighted_term_needs_its_network(term: str, data_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=f"{term}_network"):
        config(data_set, tmp_path / "run", **{f"{term}_weight": 1.0})


# The compiler's own.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")
def test_compiled_every_weight_learns(data_set: DataSet, tmp_path: Path) -> None:
    """Adam's first step moves each weight whose gradient is not zero, however small it is."""
    shape = TINY_VQGAN.to_dict() | {"channel_multipliers": (1, 2), "attention_resolutions": ()}
    moved = {}
    for compiled in (False, True):
        changed = {"architecture": shape, "precision": "bfloat16", "adversarial_start": 9}
        run = prepared(config(data_set, tmp_path / str(compiled), compile=compiled, **changed))
        before = {n: p.detach().clone() for n, p in run.vqgan.named_parameters()}
        if compiled:
            run.compile_blocks()
        run.train_step()
        after = dict(run.vqgan.named_parameters())
        moved[compiled] = {n for n, p in before.items() if not torch.equal(p, after[n])}
    assert moved[True] == moved[False]
    assert "encoder.conv_in.weight" in moved[True]
