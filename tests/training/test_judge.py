"""The judge: what it computes, that it learns, that a resumed run is the same run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.training.conftest import DataSet, write_lines, write_record

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import Judge, JudgeConfig
from llmcxr_models.preprocess import Preprocessing
from llmcxr_training.balanced_loss import balanced_loss
from llmcxr_training.data import DataError, read_manifest
from llmcxr_training.datasets import JsonlData
from llmcxr_training.judge_pictures import JudgeAugmentation, augmented
from llmcxr_training.judge_settings import JudgeArchitecture, JudgeTraining
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.run_state import seed_everything
from llmcxr_training.train_judge import (
    JudgeRun,
    train_judge,
)

SMALL = JudgeConfig(
    ("Cardiomegaly", "Edema"), input_size=32, widths=(8, 16), blocks=1, norm_groups=4
)

HYBRID = JudgeConfig(
    ("Cardiomegaly", "Edema"),
    input_size=32,
    widths=(8, 16),
    blocks=1,
    norm_groups=4,
    orientations=4,
    normalisation="batch",
)


@pytest.fixture(params=[SMALL, HYBRID], ids=["pixels", "oriented-gradients"])
def judge(request: pytest.FixtureRequest) -> Judge:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge(request.param)
        judge(pictures(16))  # Statistics of batch normalisation.
        return judge.eval()


def pictures(n: int = 3, channels: int = 1, side: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, side, side, generator=generator) * 2 - 1


def test_shapes(judge: Judge) -> None:
    assert judge(pictures()).shape == (3, 2)
    assert judge.features(pictures()).shape == (3, judge.feature_size) == (3, 16)
    assert [tuple(m.shape) for m in judge.maps(pictures())] == [(3, 8, 8, 8), (3, 16, 4, 4)]
    assert judge.scores(pictures(5), batch_size=2).shape == (5, 2)


def test_an_image_s_scores_are_its_own(judge: Judge) -> None:
    together = judge.scores(pictures(4))
    alone = torch.cat([judge.scores(p) for p in pictures(4).split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(together, judge.scores(pictures(4)))
    grey = pictures(2).expand(-1, 3, -1, -1)
    torch.testing.assert_close(judge(grey), judge(pictures(2)), rtol=1e-5, atol=1e-6)


def test_it_tells_left_from_right(judge: Judge) -> None:
    assert not torch.allclose(judge.features(pictures()), judge.features(pictures().flip(-1)))


def test_gradients_reach_the_pixels_of_a_frozen_judge(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text(json.dumps({"judge": judge.config.to_dict()}))
    save_file(judge.state_dict(), tmp_path / "judge.safetensors")
    frozen = Judge.load(tmp_path)
    pixels = pictures().requires_grad_()
    frozen.features(pixels).sum().backward()
    assert pixels.grad is not None
    assert float(pixels.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in frozen.parameters())
    assert torch.equal(frozen(pictures()), judge(pictures()))


def test_a_judge_described_before_there_was_a_choice_still_loads(tmp_path: Path) -> None:
    described = SMALL.to_dict()
    del described["orientations"], described["normalisation"]
    (tmp_path / "judge.json").write_text(json.dumps({"judge": described}))
    save_file(Judge(SMALL).state_dict(), tmp_path / "judge.safetensors")
    assert Judge.load(tmp_path).config == SMALL


def test_a_damaged_judge_is_one_error(tmp_path: Path) -> None:
    judge = Judge(SMALL)
    description, weights = tmp_path / "judge.json", tmp_path / "judge.safetensors"
    with pytest.raises(InvalidCheckpoint):
        Judge.load(tmp_path)
    save_file(judge.state_dict(), weights)
    wrong: list[Any] = [
        {},
        {"judge": SMALL.to_dict() | {"widths": [8, 24]}},
        {"judge": SMALL.to_dict() | {"unknown": 1}},
        {"judge": SMALL.to_dict() | {"findings": []}},
        {"judge": SMALL.to_dict() | {"thresholds": [0.5]}},
        {"judge": SMALL.to_dict() | {"norm_groups": 3}},
        {"judge": SMALL.to_dict() | {"normalisation": "layer"}},
        {"judge": SMALL.to_dict() | {"orientations": -1}},
    ]
    for described in wrong:
        description.write_text(json.dumps(described))
        with pytest.raises(InvalidCheckpoint):
            Judge.load(tmp_path)
    description.write_text(json.dumps({"judge": SMALL.to_dict()}))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InvalidCheckpoint):
        Judge.load(tmp_path)


def test_the_loss_leaves_out_the_unknown_and_balances() -> None:
    logits, unknown = torch.tensor([[0.0, 5.0]]), torch.tensor([[1.0, math.nan]])
    ones = torch.ones(2)
    assert balanced_loss(logits, unknown, ones).item() == pytest.approx(math.log(2))
    assert balanced_loss(logits, torch.full((1, 2), math.nan), ones).item() == 0.0
    # One positive in four, weighted by three: as many positives as negatives, and one on average.
    zeros, targets = torch.zeros(4, 1), torch.tensor([[1.0], [0], [0], [0]])
    three = torch.tensor([3.0])
    assert balanced_loss(zeros, targets, three).item() == pytest.approx(math.log(2))
    zeros.requires_grad_()
    balanced_loss(zeros, targets, three).backward()
    assert zeros.grad is not None
    assert zeros.grad[0].item() == pytest.approx(-zeros.grad[1:].sum().item())


def test_augmented_pictures_keep_their_side() -> None:
    ramp = torch.linspace(-0.5, 0.5, 32).expand(4, 1, 32, 32)
    changed = augmented(ramp, JudgeAugmentation(shift_pixels=2), torch.Generator().manual_seed(0))
    assert changed.shape == ramp.shape
    assert bool(torch.isfinite(changed).all())
    assert float(changed.abs().max()) <= 1.0
    assert not torch.equal(changed[0], changed[1])
    assert bool((changed[..., 24:].mean(-1) > changed[..., :8].mean(-1)).all())
    none = JudgeAugmentation(degrees=0, scale=0, shift_pixels=0, contrast=0, gamma=0)
    torch.testing.assert_close(augmented(ramp, none, torch.Generator()), ramp, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def bright_and_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty patients; those with an enlarged heart have a bright left half."""
    folder = tmp_path_factory.mktemp("judged")
    records = []
    for number in range(40):
        grey = np.random.default_rng(number).integers(60, 120, (32, 32), dtype=np.uint8)
        ill = number % 2
        grey[:, :16] += np.uint8(120 * ill)
        report = "The heart is enlarged." if ill else "The heart is normal."
        record = write_record(
            folder,
            number,
            split="train" if number < 28 else "val",
            findings=report,
            impression="",
            labels={"mesh_major": []},
        )
        Image.fromarray(grey).save(folder / record["file"])
        records.append(record)
    write_lines(folder / "manifest.jsonl", records)
    return folder / "manifest.jsonl"


def configuration(manifest: Path, output: Path, **changed: Any) -> JudgeTraining:
    return JudgeTraining(
        data=JsonlData(manifest=manifest),
        output=output,
        **{
            "image_size": 32,
            "findings": ("No Finding", "Cardiomegaly"),
            "architecture": JudgeArchitecture(
                input_size=32, widths=(8, 16), blocks=1, norm_groups=4
            ),
            "augmentation": JudgeAugmentation(shift_pixels=2, degrees=4),
            "steps": 30,
            "batch_size": 8,
            "warmup_steps": 2,
            "average_decay": 0.8,
            "least_val_positives": 3,
            "validate_every_steps": 10,
            "threads": 1,
            "device": "cpu",
            "precision": "float32",
        }
        | changed,
    )


def test_it_learns_and_keeps_its_best_step(bright_and_dark: Path, tmp_path: Path) -> None:
    config = configuration(bright_and_dark, tmp_path / "run")
    assert train_judge(config) == tmp_path / "run" / "judge.safetensors"
    described = json.loads((tmp_path / "run" / "judge.json").read_text())
    assert described["val_auroc_macro"] > 0.95
    assert set(described["val_auroc"]) == {"No Finding", "Cardiomegaly"}
    assert described["step"] in (10, 20, 30)
    assert described["steps"] == 30
    judge = Judge.load(tmp_path / "run")
    assert judge.config.findings == config.findings
    assert len(judge.config.thresholds) == 2
    assert sum(1 for _ in (tmp_path / "run" / "tensorboard").iterdir()) == 1


HYBRID_RUN: dict[str, Any] = {
    "architecture": JudgeArchitecture(
        input_size=32, widths=(8, 16), blocks=1, norm_groups=4, orientations=4,
        normalisation="batch",
    ),
    "auxiliary_weight": 1.0,
    "least_auxiliary_positives": 1,
}  # fmt: skip


def test_it_learns_from_oriented_gradients_and_more_questions(
    bright_and_dark: Path, tmp_path: Path
) -> None:
    train_judge(configuration(bright_and_dark, tmp_path / "run", **HYBRID_RUN))
    described = json.loads((tmp_path / "run" / "judge.json").read_text())
    assert described["val_auroc_macro"] > 0.95
    judge = Judge.load(tmp_path / "run")
    assert judge.config.orientations == 4
    assert judge.head.out_features == 2


@pytest.mark.parametrize("changed", [{}, HYBRID_RUN], ids=["pixels", "oriented-gradients"])
def test_a_resumed_run_is_the_uninterrupted_one(
    bright_and_dark: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    whole = train_judge(configuration(bright_and_dark, tmp_path / "whole", steps=14, **changed))

    # Stopped at step 7. The schedule is the whole run's: it is the process that ended.
    config = configuration(bright_and_dark, tmp_path / "parts", steps=14, **changed)
    studies = read_manifest(bright_and_dark, splits=("train", "val"))
    cache = PixelCache.open(studies, Preprocessing(image_size=32, channels=1), tmp_path / "cache")
    seed_everything(config.seed)
    first = JudgeRun(config, cache)
    for _ in range(7):
        first.train_step()
        first.step += 1
    first.save()
    parts = train_judge(config)
    assert {k: v.tolist() for k, v in load_file(whole).items()} == {
        k: v.tolist() for k, v in load_file(parts).items()
    }


def test_a_val_split_too_small_to_choose_by(bright_and_dark: Path, tmp_path: Path) -> None:
    config = configuration(
        bright_and_dark, tmp_path / "run", steps=4, validate_every_steps=2, least_val_positives=99
    )
    train_judge(config)
    described = json.loads((tmp_path / "run" / "judge.json").read_text())
    assert described["step"] == 4
    assert described["val_auroc_macro"] is None


def test_data_without_a_val_split_is_refused(data_set: DataSet, tmp_path: Path) -> None:
    only_train = [write_record(tmp_path, n) for n in range(3)]
    write_lines(tmp_path / "m.jsonl", only_train)
    with pytest.raises(DataError, match="val"):
        train_judge(configuration(tmp_path / "m.jsonl", tmp_path / "run"))
