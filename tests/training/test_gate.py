"""llmcxr-train gate, measure-gate and publish --gate, on a handful of drawn pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.conftest import untrained, write_lines, write_record

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.gate import GATE_WEIGHTS, Gate
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline
from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.gate_measurement import measure_gate, separation
from llmcxr_training.gate_pictures import DRAWN, invert, read_folder, shake, shuffle_tiles, turn
from llmcxr_training.gate_settings import GateTraining
from llmcxr_training.release import assemble, publish
from llmcxr_training.train_gate import train_gate
from llmcxr_training.trained_gate import TrainedGate


@pytest.fixture
def config(tmp_path: Path) -> GateTraining:
    """Twenty-one pictures of three splits, some lateral, and photographs of nothing."""
    splits = ["train"] * 10 + ["val"] * 4 + ["test"] * 5 + ["shift"] * 2
    records = [
        write_record(tmp_path, i, split=split, view="lateral" if i % 3 == 2 else "PA")
        for i, split in enumerate(splits)
    ]
    write_lines(tmp_path / "manifest.jsonl", records)
    for split in ("train", "test"):
        folder = tmp_path / "pictures" / split / "photographs"
        folder.mkdir(parents=True)
        grey = np.random.default_rng(len(split)).integers(0, 256, (50, 70), dtype=np.uint8)
        Image.fromarray(grey).save(folder / "one.png")
    data = JsonlData(manifest=tmp_path / "manifest.jsonl")
    return GateTraining(
        data=data,
        shift=data,
        pictures=tmp_path / "pictures",
        output=tmp_path / "gate",
        image_size=32,
        input_size=16,
        widths=(8, 16),
        crops_each=2,
        drawn_each=3,
        steps=3,
        batch_size=16,
    )


def test_training_can_be_repeated(config: GateTraining) -> None:
    first = train_gate(config).read_bytes()
    assert train_gate(config).read_bytes() == first
    gate = TrainedGate.load(config.output).gate
    assert 0 < gate.config.refuse_below <= gate.config.doubt_below <= 0.8
    assert not gate.training


def test_what_is_measured(config: GateTraining) -> None:
    train_gate(config)
    metrics = json.loads(measure_gate(config).read_text())
    assert metrics.keys() == {
        "frontal", "lateral", "shift frontal", "shift lateral", "inverted", "turned", "noise",
        "gradients", "documents", "photographs",
    }  # fmt: skip
    for name, measured in metrics.items():
        assert 0 <= measured["refused"]["value"] + measured["doubted"]["value"] <= 1
        assert ("auroc" in measured) is (name not in ("frontal", "shift frontal"))
    assert metrics["photographs"]["refused"]["n"] == 3


def test_without_photographs_laterals_or_other_hospitals(config: GateTraining) -> None:
    records = [write_record(config.output.parent, i, split=s) for i, s in enumerate(
        ["train", "train", "val", "test"])]  # fmt: skip
    write_lines(config.output.parent / "manifest.jsonl", records)
    alone = config.model_copy(update={"pictures": None, "shift": None})
    train_gate(alone)
    assert "lateral" not in json.loads(measure_gate(alone).read_text())


def test_nothing_to_learn_from(config: GateTraining) -> None:
    folder = config.output.parent
    write_lines(folder / "manifest.jsonl", [write_record(folder, 0, split="train", view="lateral")])
    with pytest.raises(DataError, match="frontal"):
        train_gate(config)


def test_an_empty_or_damaged_folder_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="no pictures"):
        read_folder(tmp_path, 16, 1, rng)
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture"):
        read_folder(tmp_path, 16, 1, rng)


@pytest.mark.parametrize("kind", DRAWN)
def test_drawn_pictures(kind: str) -> None:
    first, second = (
        [DRAWN[kind](rng, 48) for _ in range(8)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    for one, same in zip(first, second, strict=True):
        assert one.shape == (48, 48)
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, same)


def test_spoilt_chests_keep_their_pixels() -> None:
    pixels = torch.rand(3, 1, 16, 16) * 2 - 1
    generator = torch.Generator().manual_seed(0)
    for spoilt in (turn(pixels, generator), shuffle_tiles(pixels, generator), -invert(pixels)):
        same, before = spoilt.flatten(1).sort().values, pixels.flatten(1).sort().values
        torch.testing.assert_close(same, before)
    assert not torch.equal(turn(pixels, generator), pixels)
    shaken = shake(pixels, generator)
    assert shaken.shape == pixels.shape
    assert -1 <= shaken.min() <= shaken.max() <= 1


def test_separation_is_an_auroc() -> None:
    high, low = np.array([0.9, 0.8, 0.7]), np.array([0.1, 0.75, 0.2])
    found = separation((high, ["a", "b", "c"]), (low, ["a", "b", "b"]))
    assert found["value"] == pytest.approx(8 / 9)
    assert found["low"] <= found["value"] <= found["high"]


def test_another_preprocessing_is_refused(config: GateTraining) -> None:
    train_gate(config)
    gate = TrainedGate.load(config.output)
    gate.check_preprocessing(Preprocessing())
    with pytest.raises(InvalidCheckpoint, match="preprocessing"):
        gate.check_preprocessing(Preprocessing(Pipeline.MIMIC, Geometry.CENTRE_CROP))
    (config.output / "gate.json").write_text("{}")
    with pytest.raises(InvalidCheckpoint, match=r"gate\.json"):
        TrainedGate.load(config.output)


def test_published_and_assembled(
    config: GateTraining, make_config: Callable[..., Finetuning], tmp_path: Path
) -> None:
    train_gate(config)
    run = untrained(make_config())
    named = {"name": "tiny", "version": "1", "max_model_len": 512}
    publish(run, tmp_path / "release", gate=config.output, **named)
    checkpoint = assemble(tmp_path / "release", run.base, tmp_path / "checkpoint")
    assert GATE_WEIGHTS in checkpoint.manifest.files
    served = Checkpoint.open(checkpoint.path).load_gate()
    assert isinstance(served, Gate)
    pixels = torch.rand(2, 1, 32, 32)
    trained = TrainedGate.load(config.output).gate
    assert torch.equal(served.probabilities(pixels), trained.probabilities(pixels))
    # The gate of a release goes into the next one, as it is.
    publish(run, tmp_path / "next", gate=tmp_path / "release", **named)
    one, other = (tmp_path / n / GATE_WEIGHTS for n in ("release", "next"))
    assert one.read_bytes() == other.read_bytes()
    # Published again without: nothing of the earlier gate is left.
    publish(run, tmp_path / "release", **named)
    assert not (tmp_path / "release" / GATE_WEIGHTS).exists()
    assert assemble(tmp_path / "release", run.base, tmp_path / "plain").load_gate() is None
    with pytest.raises(InvalidCheckpoint, match="no gate"):
        publish(run, tmp_path / "next", gate=tmp_path / "release", **named)
