"""One cell of a grid, in a process of its own: trains its stages, measures the last, ends.

Every part goes on from what the folder holds: stages from their states, answers one by one.

cell.json          the resolved configuration
stage1/, stage2/   as `llmcxr-train finetune` leaves them
cases-val.npz      what was measured, case by case; written last, so the cell is done
cases-test.npz     the same, where the test split was asked for
work-val/          answers of the model, codes of the radiographs
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmcxr_training.ablation.cases import measure_cell
from llmcxr_training.ablation.grid import Cell
from llmcxr_training.ablation.settings import AblationError
from llmcxr_training.evaluation.pictures import kept
from llmcxr_training.evaluation.settings import Split

_log = logging.getLogger(__name__)

CELL_JSON = "cell.json"
ASK_AGAIN_SECONDS = 5.0
"""How often a cell is asked to stop, until it does."""


def cases_path(folder: Path, split: Split) -> Path:
    """Where a cell's cases are."""
    return folder / f"cases-{split}.npz"


def read_cell(folder: Path) -> Cell:
    """The resolved configuration of a cell.

    Raises:
        AblationError: there is none, or it is of another version.
    """
    try:
        return Cell.model_validate_json((folder / CELL_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AblationError(f"{folder} holds no cell: {type(error).__name__}") from error


def run_cell(folder: Path, split: Split = "val", *, nice: int = 0, follow: bool = False) -> None:
    """Train and measure what is missing.

    Args:
        folder: with `cell.json`.
        split: whose patients are measured.
        nice: how much this process yields to others.
        follow: whether to stop as by SIGTERM when standard input ends: whoever started this
            process holds it open, and may be killed without a chance to say so.

    Raises:
        AblationError: there is no cell in `folder`.
        Stopped: by SIGTERM; the state is saved.
    """
    if nice:
        os.nice(nice)
    if follow:
        threading.Thread(target=_stop_with_input, daemon=True).start()
    cell = read_cell(folder)
    # A cell that was left alone may still be saving: wait for it.
    with locked(folder / "lock", wait=True):
        if split == "val":
            _train(cell)
        last = cell.stages[-1]
        work = folder / f"work-{split}"
        kept(cases_path(folder, split), lambda: measure_cell(last, cell.measure, split, work))


def _train(cell: Cell) -> None:
    from llmcxr_training.stage import finetune

    for number, stage in enumerate(cell.stages, start=1):
        _log.info("%s: stage %d of %d", cell.name, number, len(cell.stages))
        finetune(stage)


def _stop_with_input() -> None:
    # Not by `sys.stdin`, whose lock this thread would still hold when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    # Again and again: in its last step a stage ends as if it had not been asked.
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ASK_AGAIN_SECONDS)


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends.

    Raises:
        AblationError: another process holds it, and this one does not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise AblationError(f"another process works in {path.parent}") from error
        yield
