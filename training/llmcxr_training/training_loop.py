"""The loop of every training run: progress, scalars, saving, and a clean end when asked to stop.

What is learnt is the run's business; what happens around a step is here, once.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from llmcxr_training.run_state import git_state, write_json

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The run was asked to stop (SIGTERM); its state is saved."""


class SteppedRun(Protocol):
    """A run as the loop sees it.

    Attributes:
        step: optimiser steps taken.
        seconds: spent in them.
    """

    step: int
    seconds: float

    def train_step(self) -> dict[str, float]:
        """Take one optimiser step; what it measured."""
        ...

    def after_step(self, writer: SummaryWriter | None) -> dict[str, float]:
        """Validate and show where it is time; what that measured. `step` counts the step."""
        ...

    def save(self) -> None:
        """Write the state to resume from."""
        ...


def _wish(value: bool) -> bool:
    return value


@dataclass(frozen=True)
class Loop:
    """How often what happens around a run's steps.

    Attributes:
        name: in front of the progress bar.
        folder: the run's; TensorBoard files go there.
        steps: in all.
        save_every_seconds: a killed run loses at most this much.
        log_every_steps: scalars of a step are written this often.
        is_main: whether this process shows and writes.
        agree: what all processes of the run do about a wish of the main one.
    """

    name: str
    folder: Path
    steps: int
    save_every_seconds: float
    log_every_steps: int = 1
    is_main: bool = True
    agree: Callable[[bool], bool] = _wish

    def run(self, run: SteppedRun) -> None:
        """Step until `steps`, and save.

        Raises:
            Stopped: SIGTERM was received; the step under way was finished.
        """
        writer = SummaryWriter(str(self.folder / "tensorboard")) if self.is_main else None
        progress: tqdm[Any] = tqdm(
            total=self.steps,
            initial=run.step,
            desc=self.name,
            unit="step",
            disable=not self.is_main,
        )
        try:
            with progress, _noticed(signal.SIGTERM) as asked:
                self._steps(run, writer, progress, asked)
                run.save()
        finally:
            if writer:
                writer.close()
        if run.step < self.steps:
            raise Stopped(f"stopped at step {run.step} of {self.steps}; the state is saved")

    def _steps(
        self,
        run: SteppedRun,
        writer: SummaryWriter | None,
        progress: tqdm[Any],
        asked: threading.Event,
    ) -> None:
        saved_at = time.monotonic()
        while run.step < self.steps:
            started = time.monotonic()
            metrics = run.train_step()
            run.step += 1
            run.seconds += time.monotonic() - started
            progress.update()
            if run.step % self.log_every_steps == 0:
                _write(writer, metrics, run.step)
                progress.set_postfix({k: f"{v:.3f}" for k, v in metrics.items()})
            measured = run.after_step(writer)
            if measured:
                _write(writer, measured, run.step)
                _log.info("step %d: %s", run.step, {k: round(v, 4) for k, v in measured.items()})
            if self.agree(asked.is_set()):
                return
            if self.agree(time.monotonic() - saved_at > self.save_every_seconds):
                run.save()
                saved_at = time.monotonic()


def describe_run(folder: Path, settings: Mapping[str, object]) -> None:
    """Make the run's folder, with its resolved configuration and the state of the code."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings)
    write_json(folder / "git.json", git_state())


def _write(writer: SummaryWriter | None, metrics: Mapping[str, float], step: int) -> None:
    if writer:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)


@contextmanager
def _noticed(number: signal.Signals) -> Iterator[threading.Event]:
    """An event that the signal sets, in place of what it did before; only a main thread may."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def notice(_number: int, _frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(number, notice)
    try:
        yield event
    finally:
        signal.signal(number, before)
