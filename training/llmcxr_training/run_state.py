"""What a run leaves on disk: resolved configuration, git state, and a state to resume from.

A state is written beside its final name and moved there, so a run that is killed while saving,
or that meets a full disk, keeps the state before.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

STATE_FILE = "state.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{STATE_FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / STATE_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The last saved state, or None for a new run."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_moments(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], keep: tuple[str, ...]
) -> None:
    """The moments come from `state`; the settings named in `keep` stay the optimiser's own, so
    that what a configuration has changed since is obeyed.
    """
    settings = [{name: group[name] for name in keep} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, wanted in zip(optimizer.param_groups, settings, strict=True):
        group.update(wanted)


def save_weights(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write safetensors atomically, for other users to read.

    The library makes files of mode 0600; a service often runs as another user than who trained.
    """
    temporary = path.with_suffix(path.suffix + ".tmp")
    try:
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  third-party code uses the global generator
    torch.manual_seed(seed)


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Commit and whether tracked files were changed; `unknown` outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603  fixed arguments
            ["git", *arguments],  # noqa: S607  git is found by PATH, as a user would
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": True}
