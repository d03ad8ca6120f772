"""Configuration files, arithmetic, and what a run leaves on disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from llmcxr_models.vqgan import VqGanConfig
from llmcxr_training.config_file import ConfigError, read_config
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.refinement import Refinement
from llmcxr_training.run_state import git_state, load_state, save_state
from llmcxr_training.vqgan_settings import VqGanTraining

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(
        'output = "run"\nsteps = 10\n'
        '[data]\nkind = "jsonl"\nmanifest = "m.jsonl"\n'
        "[architecture]\nimage_size = 64\n"
    )
    return path


def test_a_file_is_read_and_overrides_win(file: Path) -> None:
    config = read_config(
        file,
        VqGanTraining,
        ["steps=20", "output=a/b c", "architecture.base_channels=16", "steps=30"],
    )
    assert (config.steps, config.output) == (30, Path("a/b c"))
    assert (config.architecture.image_size, config.architecture.base_channels) == (64, 16)
    assert config.precision == "auto"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("step=3", "step"),
        ("architecture.image_sise=3", "architecture.image_sise"),
        ("steps=many", "steps"),
        ("steps=1.5", "steps"),
        ("precision=float16", "precision"),
        ("output.x=1", "output"),
        ("data.manifesto=x", "manifesto"),
        ("data.kind=mimic", "data.mimic.images"),
        ("data.kind=parquet", "data"),
        ("steps", "key=value"),
    ],
)
def test_what_is_wrong_is_named(file: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(file, VqGanTraining, [override])


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for content in (b"a = ", b"\xff\xfe"):
        (tmp_path / "x.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"x\.toml"):
            read_config(tmp_path / "x.toml", VqGanTraining, [])
    with pytest.raises(ConfigError):
        read_config(tmp_path / "none.toml", VqGanTraining, [])


def test_full_fine_tuning_can_be_asked_for() -> None:
    file = CONFIGS / "finetune-demo-stage1.toml"
    overrides = ["lora=none", "mixing.normal_share=none"]
    with pytest.raises(ConfigError, match="anchor_weight needs adapters"):
        read_config(file, Finetuning, overrides)
    config = read_config(file, Finetuning, [*overrides, "anchor_weight=0"])
    assert config.lora is None
    assert config.mixing.normal_share is None
    assert read_config(file, Finetuning, []).lora is not None


@pytest.mark.parametrize(("name", "kind"), [("vqgan", VqGanTraining), ("finetune", Finetuning)])
def test_the_configurations_that_ship_are_valid(name: str, kind: type) -> None:
    files = sorted(CONFIGS.glob(f"{name}-*.toml"))
    assert files
    for file in files:
        read_config(file, kind, [])


def test_the_paper_s_configurations_are_valid() -> None:
    vqgan = read_config(CONFIGS / "paper" / "vqgan.toml", VqGanTraining, [])
    stages = [
        read_config(CONFIGS / "paper" / f"{name}.toml", Finetuning, [])
        for name in ("stage1", "stage2")
    ]
    for stage in stages:
        assert stage.vqgan == vqgan.output
        assert (stage.learning_rate, stage.epochs, stage.warmup_steps) == (5e-6, 5, 50)
        assert (stage.batch_size, stage.micro_batch_size) == (8 * 2, 2)
        assert stage.lora is None
    assert VqGanConfig(**vqgan.architecture.model_dump()) == VqGanConfig()


@pytest.mark.parametrize("name", ["finetune-stage{}", "paper/stage{}"])
def test_the_second_stage_is_the_refined_one(name: str) -> None:
    one, two = (
        read_config(CONFIGS / f"{name.format(stage)}.toml", Finetuning, []) for stage in (1, 2)
    )
    assert two.initial == one.output
    assert (one.vqgan, one.base, one.template, one.lora) == (
        *(two.vqgan, two.base, two.template, two.lora),
    )
    assert one.refinement == Refinement(views=("frontal", "lateral"))
    assert two.refinement == Refinement(first_study_only=True, sections="impression")


def test_precision_is_chosen_once() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_precision("float32", CPU) is torch.float32
    assert resolve_precision("bfloat16", CPU) is torch.bfloat16
    assert resolve_precision("auto", CPU) in {torch.float32, torch.bfloat16}
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert layer(x).dtype is dtype


def test_a_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path / "run") is None
    save_state(tmp_path / "run", {"weights": torch.arange(3), "step": 4})
    state = load_state(tmp_path / "run")
    assert state is not None
    assert state["step"] == 4
    assert torch.equal(state["weights"], torch.arange(3))
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["state.pt"]


def test_a_failing_save_keeps_the_old_state(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1})
    with pytest.raises(Exception, match="pickle"):
        save_state(tmp_path, {"step": 2, "no": lambda: None})  # fails half way
    (tmp_path / "state.pt.tmp").mkdir()  # in the way
    with pytest.raises(OSError, match=r"state\.pt"):
        save_state(tmp_path, {"step": 3})
    assert load_state(tmp_path) == {"step": 1}


def test_a_run_says_which_commit_it_was(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": "unknown", "dirty": True}
    for command in (
        ["init", "-q"],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    state = git_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    assert json.dumps(state)
