"""Fixtures for everybody: a tiny real checkpoint, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoints import build_checkpoint

from llmcxr_models.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint directory; nobody may write to it."""
    return build_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    """The same, opened and verified."""
    return Checkpoint.open(checkpoint_path)
