"""What happens around a run's steps: curves, saving, and an end by SIGTERM that loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.training.conftest import MakeConfig
from tests.training.test_processes import _toml, logged
from torch.utils.tensorboard import SummaryWriter

from llmcxr_training.run_state import load_state
from llmcxr_training.training_loop import Loop, Stopped


class Counting:
    """A run that counts, and is asked to stop during the step `asked_at`."""

    def __init__(self, asked_at: int | None = None) -> None:
        self.step = 0
        self.seconds = 0.0
        self.saved: list[int] = []
        self.asked_at = asked_at

    def train_step(self) -> dict[str, float]:
        if self.step == self.asked_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0 / (1 + self.step)}

    def after_step(self, writer: SummaryWriter | None) -> dict[str, float]:
        assert writer is not None
        return {"val_loss": 0.5} if self.step % 4 == 0 else {}

    def save(self) -> None:
        self.saved.append(self.step)


def test_a_loop_logs_and_saves(tmp_path: Path) -> None:
    run = Counting()
    Loop("count", tmp_path, 10, save_every_seconds=1000, log_every_steps=2).run(run)
    assert run.saved == [10]
    curves = logged(tmp_path)
    assert curves["loss"] == pytest.approx([1 / 2, 1 / 4, 1 / 6, 1 / 8, 1 / 10])
    assert curves["val_loss"] == [0.5, 0.5]
    assert run.seconds >= 0
    often = Counting()
    Loop("count", tmp_path, 3, save_every_seconds=0).run(often)
    assert often.saved == [1, 2, 3, 3]


def test_sigterm_saves_the_step_under_way(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run = Counting(asked_at=3)
    with pytest.raises(Stopped, match="step 4 of 10"):
        Loop("count", tmp_path, 10, save_every_seconds=1000).run(run)
    assert run.saved == [4]
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_the_last_step_is_no_stop(tmp_path: Path) -> None:
    run = Counting(asked_at=9)
    Loop("count", tmp_path, 10, save_every_seconds=1000).run(run)
    assert run.saved == [10]


def test_a_command_that_is_asked_to_stop_says_so(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(steps=100_000, save_every_seconds=0.0)
    path = tmp_path / "run.toml"
    path.write_text(_toml(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "llmcxr_training", "finetune", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )
    deadline = time.monotonic() + 120
    while not (config.output / "state.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors[-2000:]
    assert "the state is saved" in errors
    assert "Traceback" not in errors
    state = load_state(config.output)
    assert state is not None
    assert f"stopped at step {state['step']} of" in errors
