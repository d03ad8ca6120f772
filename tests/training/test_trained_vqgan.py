"""A VQ-GAN whose codes stand still is used while its decoder learns on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import DataSet, MakeConfig, write_vqgan
from tests.training.test_vqgan_training import config, same

from llmcxr_models.vqgan import VqGan
from llmcxr_training.data import DataError
from llmcxr_training.release import publish
from llmcxr_training.run_state import load_state, save_state, save_weights
from llmcxr_training.stage import finetune
from llmcxr_training.train_vqgan import train_vqgan
from llmcxr_training.trained_vqgan import TrainedVqGan, export_state


def forget(folder: Path) -> None:
    for name in ("vqgan.safetensors", "vqgan.json"):
        (folder / name).unlink()


def test_a_frozen_run_is_exported_from_its_state(data_set: DataSet, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_vqgan(config(data_set, folder, steps=4, freeze_codes_at=2))
    early, described = TrainedVqGan.load(folder), (folder / "vqgan.json").read_text()
    forget(folder)
    assert export_state(folder) == folder / "vqgan.safetensors"
    assert (folder / "vqgan.json").read_text() == described
    forget(folder)
    again = TrainedVqGan.load(folder)
    assert same(again.vqgan.state_dict(), early.vqgan.state_dict())
    assert again.preprocessing == early.preprocessing

    # It learns on: another decoder, the same codes. What was exported catches up by itself.
    before = [(folder / n).read_bytes() for n in ("vqgan.safetensors", "vqgan.json")]
    train_vqgan(config(data_set, folder, steps=6, freeze_codes_at=2))
    for name, content in zip(("vqgan.safetensors", "vqgan.json"), before, strict=True):
        (folder / name).write_bytes(content)
    late = TrainedVqGan.load(folder)
    assert late.code_digest == early.code_digest
    assert not same(late.vqgan.state_dict(), early.vqgan.state_dict())
    state = load_state(folder)
    assert state is not None
    assert same(late.vqgan.state_dict(), state["average"])


def test_the_trainer_exports_when_codes_stand_still(data_set: DataSet, tmp_path: Path) -> None:
    for steps, exported in ((2, False), (3, True)):
        settings = config(data_set, tmp_path / "run", steps=steps, freeze_codes_at=2)
        train_vqgan(settings)
        state = load_state(tmp_path / "run")
        assert state is not None
        assert state["frozen"] is exported
        forget(tmp_path / "run")
        if not exported:
            for read in (TrainedVqGan.load, export_state):
                with pytest.raises(DataError, match="frozen"):
                    read(tmp_path / "run")


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither finished nor frozen"):
        TrainedVqGan.load(tmp_path)


def test_only_what_decides_codes_is_in_their_digest(tmp_path: Path) -> None:
    folder = write_vqgan(tmp_path / "vqgan")
    digest = TrainedVqGan.load(folder).code_digest
    weights = load_file(folder / "vqgan.safetensors")
    for name, tensor in weights.items():
        if name.endswith(("conv_in.weight", "conv.weight", "embedding.weight")):
            save_weights(folder / "vqgan.safetensors", weights | {name: tensor + 1})
            kept = name.startswith(("decoder.", "post_quant_conv."))
            assert (TrainedVqGan.load(folder).code_digest == digest) is kept, name
    save_weights(folder / "vqgan.safetensors", weights)
    described = (folder / "vqgan.json").read_text()
    (folder / "vqgan.json").write_text(described.replace("squash", "centre-crop"))
    assert TrainedVqGan.load(folder).code_digest != digest


def test_a_stage_goes_on_beside_the_decoder_and_the_newest_is_published(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    settings = make_config(steps=1)
    finetune(settings)
    trained = TrainedVqGan.load(settings.vqgan)
    newer = VqGan(trained.vqgan.config)
    weights = trained.vqgan.state_dict() | {
        name: tensor + 0.5
        for name, tensor in newer.state_dict().items()
        if name.startswith("decoder.")
    }
    save_weights(settings.vqgan / "vqgan.safetensors", weights)
    finetune(make_config(steps=2))
    assert len(list(settings.vqgan.glob("codes-*.npz"))) == 1
    publish(settings, tmp_path / "release", name="tiny", version="1", max_model_len=512)
    assert same(load_file(tmp_path / "release" / "vqgan.safetensors"), weights)
    # An encoder that went on is another matter.
    moved = weights | {"quant_conv.bias": weights["quant_conv.bias"] + 1}
    save_weights(settings.vqgan / "vqgan.safetensors", moved)
    with pytest.raises(DataError, match="another VQ-GAN"):
        publish(settings, tmp_path / "other", name="tiny", version="1", max_model_len=512)


def test_a_state_without_average_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, {"frozen": True, "vqgan": {"x": torch.zeros(1)}})
    with pytest.raises(DataError, match="frozen"):
        export_state(tmp_path)
