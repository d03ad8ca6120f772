"""A small real judge with drawn weights, and checkpoints that carry it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from llmcxr_models.checkpoint import hash_files, read_manifest, write_manifest
from llmcxr_models.judge import JUDGE_WEIGHTS, Judge, JudgeConfig

SMALL = JudgeConfig(
    ("No Finding", "Cardiomegaly", "Pleural Effusion"),
    input_size=32,
    widths=(8, 16),
    blocks=1,
    norm_groups=4,
)


def drawn_judge(seed: int = 0, config: JudgeConfig = SMALL) -> Judge:
    """Random weights, but large enough in the last layer for pictures to differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Judge(config)
        torch.nn.init.normal_(judge.head.weight, std=2.0)
    return judge.eval().requires_grad_(False)


def with_judge(checkpoint: Path, target: Path, judge: Judge) -> Path:
    """A copy of a checkpoint that carries this judge."""
    shutil.copytree(checkpoint, target)
    save_file(judge.state_dict(), target / JUDGE_WEIGHTS)
    manifest = read_manifest(target)
    write_manifest(target, replace(manifest, judge=judge.config, files=hash_files(target)))
    return target
