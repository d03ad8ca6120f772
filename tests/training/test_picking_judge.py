"""publish --judge: the checkpoint carries it, and it is never the one that measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.judges import SMALL, drawn_judge
from tests.training.conftest import untrained

from llmcxr_models.checkpoint import Checkpoint, sha256
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import JUDGE_WEIGHTS, Judge, JudgeConfig
from llmcxr_models.preprocess import Geometry, Preprocessing
from llmcxr_models.radiograph import Pipeline
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.picking_judge import TrainedJudge, picking_judge
from llmcxr_training.release import assemble, publish
from llmcxr_training.run_state import save_weights

OTHER = JudgeConfig(SMALL.findings, input_size=32, widths=(8, 8), blocks=1, norm_groups=4)
HOW = {"pipeline": "display", "geometry": "squash", "image_size": 32}


def judge_folder(folder: Path, judge: Judge, **described: Any) -> Path:
    folder.mkdir()
    save_weights(folder / JUDGE_WEIGHTS, dict(judge.state_dict()))
    whole = {"judge": judge.config.to_dict(), "preprocessing": HOW, "seed": 0} | described
    (folder / "judge.json").write_text(json.dumps(whole))
    return folder


@pytest.fixture
def measuring(tmp_path: Path) -> Path:
    return judge_folder(tmp_path / "measuring", drawn_judge(7), seed=7, measures=True)


def test_another_network_may_pick(measuring: Path, tmp_path: Path) -> None:
    picking = judge_folder(tmp_path / "picking", drawn_judge(1), seed=1)
    found, other = picking_judge(picking, measuring, Preprocessing())
    assert found.judge.config == SMALL
    assert (found.digest, other.digest) == tuple(
        sha256(folder / JUDGE_WEIGHTS) for folder in (picking, measuring)
    )
    assert found.provenance["seed"] == 1


@pytest.mark.parametrize(
    ("judge", "described", "match"),
    [
        (drawn_judge(7), {"seed": 7}, "the one that measures"),
        (drawn_judge(7), {"seed": 8}, "the one that measures"),  # the same weights
        (drawn_judge(9), {"seed": 7}, "the one that measures"),  # another step of its run
        (drawn_judge(1), {"seed": 1, "measures": True}, "trained to measure"),
        (drawn_judge(1), {"preprocessing": None}, "preprocessing"),
        (drawn_judge(1), {"preprocessing": HOW | {"geometry": "centre-crop"}}, "preprocessing"),
    ],
)
def test_refused(
    judge: Judge, described: dict[str, Any], match: str, measuring: Path, tmp_path: Path
) -> None:
    folder = judge_folder(tmp_path / "picking", judge, **described)
    with pytest.raises(InvalidCheckpoint, match=match):
        picking_judge(folder, measuring, Preprocessing())


def test_which_one_measures_has_to_be_said(measuring: Path, tmp_path: Path) -> None:
    picking = judge_folder(tmp_path / "picking", drawn_judge(7, OTHER), seed=7)
    with pytest.raises(InvalidCheckpoint, match="which one measures"):
        picking_judge(picking, None, Preprocessing())
    with pytest.raises(InvalidCheckpoint, match="missing or damaged"):
        picking_judge(picking, tmp_path / "nowhere", Preprocessing())
    mimic = Preprocessing(Pipeline.MIMIC, Geometry.CENTRE_CROP)
    with pytest.raises(InvalidCheckpoint, match="preprocessing"):
        TrainedJudge.load(picking).check_preprocessing(mimic)
    picking_judge(picking, measuring, Preprocessing())  # the seed alone says nothing


def test_published_and_assembled(
    measuring: Path, make_config: Callable[..., Finetuning], tmp_path: Path
) -> None:
    picking = judge_folder(tmp_path / "picking", drawn_judge(1), seed=1)
    run = untrained(make_config())
    named = {"name": "tiny", "version": "1", "max_model_len": 512}
    publish(run, tmp_path / "release", judge=picking, measured_by=measuring, **named)
    checkpoint = Checkpoint.open(
        assemble(tmp_path / "release", run.base, tmp_path / "checkpoint").path
    )
    assert checkpoint.manifest.files[JUDGE_WEIGHTS] == sha256(picking / JUDGE_WEIGHTS)
    assert checkpoint.manifest.provenance["measured_by"] == sha256(measuring / JUDGE_WEIGHTS)
    served = checkpoint.load_judge()
    assert served is not None
    assert served.is_same_as(drawn_judge(1))
    assert not served.is_same_as(drawn_judge(7))
    pixels = torch.rand(2, 1, 64, 64)
    assert torch.equal(served.scores(pixels), drawn_judge(1).scores(pixels))
    # Published again without: nothing of the earlier judge is left.
    publish(run, tmp_path / "release", **named)
    assert not (tmp_path / "release" / JUDGE_WEIGHTS).exists()
    assert assemble(tmp_path / "release", run.base, tmp_path / "plain").load_judge() is None
