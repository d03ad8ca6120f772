"""`llmcxr-train ablate`: runs the cells of a grid one after the other, each in its own process.

ablation.json      the grid's configuration; another one is refused in the same folder
bases/             smaller base models that were made
cells/NAME/        see `cell`
ablation-val.*     results so far, written again after every cell: .json, .md, .svg
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType

from llmcxr_training.ablation.bases import make_base
from llmcxr_training.ablation.cell import ASK_AGAIN_SECONDS, CELL_JSON, cases_path, locked
from llmcxr_training.ablation.grid import BASES, CELLS, Cell, cells_of, source_base
from llmcxr_training.ablation.report import markdown_path, write_report
from llmcxr_training.ablation.results import results_of
from llmcxr_training.ablation.settings import Ablation, AblationError
from llmcxr_training.evaluation.settings import Split
from llmcxr_training.run_state import git_state, write_json
from llmcxr_training.trained_vqgan import TrainedVqGan
from llmcxr_training.training_loop import Stopped

_log = logging.getLogger(__name__)

ABLATION_JSON = "ablation.json"
_SECONDS_JSON = "seconds.json"
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)


def ablate(config: Ablation, output: Path, *, split: Split = "val", nice: int = 0) -> Path:
    """Run what is missing of a grid, and write its results.

    Args:
        config: of the grid.
        output: folder of the grid; what is in it is not computed again.
        split: `test` measures the trained cells on test patients, once all are done on `val`.
        nice: how much the cells' processes yield to others.

    Returns:
        The table, Markdown.

    Raises:
        AblationError: the grid cannot be run, is another one than the folder's, is at work
            already, or a cell failed.
        DataError: a VQ-GAN cannot be used.
        BaseModelError: the base model cannot be loaded.
        Stopped: by SIGTERM; the cell under way has saved its state.
    """
    cells = cells_of(config, output)
    _check_files(config, cells)
    with locked(output / "lock"):
        _check_same(config, output)
        _check_split(cells, output, split)
        _prepare(config, cells, output)
        for cell in cells:
            if cases_path(output / CELLS / cell.name, split).is_file():
                continue
            _log.info("%s", _progress(cells, output, split))
            _run(cell, output, split, nice)
            _report(config, cells, output, split)
        return _report(config, cells, output, split)


def described(config: Ablation, output: Path) -> str:
    """What would be run: one line a cell, and the compute of all."""
    cells = cells_of(config, output)
    amount, unit = config.compute.amount, config.compute.unit
    lines = [
        f"{cell.name}: "
        + " then ".join(
            f"{stage.budget.amount:.3g} {unit}" for stage in cell.stages if stage.budget
        )
        for cell in cells
    ]
    return "\n".join([*lines, f"{len(cells)} cells of {amount:.3g} {unit} each"])


def _check_files(config: Ablation, cells: Sequence[Cell]) -> None:
    """Hours before they are needed."""
    needed = {source_base(config), config.measure.texts.val, config.measure.texts.test}
    if config.measure.judge is not None:
        needed.add(config.measure.judge)
    for cell in cells:
        stage = cell.stages[0]
        needed |= {stage.instructions, stage.vqgan}
        needed |= {stage.self_instructions} if stage.self_instructions else set()
    if missing := sorted(str(path) for path in needed if not path.exists()):
        raise AblationError(f"there is no {missing[0]}")
    cells[0].stages[0].data.studies(("val",))
    for tokens, folder in config.vqgans.items():
        made = TrainedVqGan.load(folder).vqgan.config.grid_size ** 2
        if str(made) != tokens:
            raise AblationError(f"the VQ-GAN of {tokens} image tokens makes {made}: {folder}")


def _check_same(config: Ablation, output: Path) -> None:
    path, ours = output / ABLATION_JSON, config.model_dump(mode="json")
    if not path.is_file():
        write_json(path, ours)
        write_json(output / "git.json", git_state())
        return
    theirs = json.loads(path.read_text(encoding="utf-8"))
    # Through JSON, as theirs has been.
    if other := _different(theirs, json.loads(json.dumps(ours))):
        names = ", ".join(other)
        raise AblationError(f"{output} holds a grid with another {names}; use another folder")


def _different(first: object, second: object, name: str = "") -> list[str]:
    """Dotted names of settings that are not equal."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return [
            found
            for key in sorted(set(first) | set(second))
            for found in _different(first.get(key), second.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if first == second else [name]


def _check_split(cells: Sequence[Cell], output: Path, split: Split) -> None:
    """The choice is made on val, and all of it before the test patients are looked at."""
    if split == "val":
        return
    left = [c for c in cells if not cases_path(output / CELLS / c.name, "val").is_file()]
    if left:
        raise AblationError(f"{len(left)} cells are not measured on val yet; test comes last")


def _prepare(config: Ablation, cells: Sequence[Cell], output: Path) -> None:
    """Base models, and the resolved configuration of every cell."""
    for cell in cells:
        base = cell.stages[0].base
        if base.parent == output / BASES:
            source, scratch = source_base(config), output / BASES / "unpacked"
            make_base(source, cell.base_level, base, seed=cell.seed, scratch=scratch)
        write_json(output / CELLS / cell.name / CELL_JSON, cell.model_dump(mode="json"))


def _run(cell: Cell, output: Path, split: Split, nice: int) -> None:
    folder = output / CELLS / cell.name
    command = [sys.executable, "-m", "llmcxr_training", "ablate-cell", str(folder)]
    command += ["--split", split, "--nice", str(nice), "--follow"]
    started = time.monotonic()
    # The open pipe tells the cell that we are there.
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as process,  # noqa: S603  our own
        _passed_on(process) as asked,
    ):
        status = _status(process, asked)
    _add_seconds(folder, split, time.monotonic() - started)
    if asked.is_set() or status in _STOPPED:
        raise Stopped(f"stopped in cell {cell.name}; its state is saved")
    if status:
        raise AblationError(f"cell {cell.name} ended with status {status}; it is said above why")


def _status(process: subprocess.Popen[bytes], asked: threading.Event) -> int:
    """How the cell ended; asked to stop, it is asked again: a stage's last step is no stop."""
    while True:
        try:
            return process.wait(timeout=ASK_AGAIN_SECONDS)
        except subprocess.TimeoutExpired:
            if asked.is_set():
                process.terminate()


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """SIGTERM goes to the cell, and is remembered; only a main thread can listen."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def notice(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        process.terminate()

    before = signal.signal(signal.SIGTERM, notice)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _add_seconds(folder: Path, split: Split, more: float) -> None:
    path = folder / _SECONDS_JSON
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, known | {split: round(known.get(split, 0.0) + more, 1)})


def _progress(cells: Sequence[Cell], output: Path, split: Split) -> str:
    """How many cells are done, and how long the others take if they take as long."""
    folders = [output / CELLS / cell.name for cell in cells]
    done = [folder for folder in folders if cases_path(folder, split).is_file()]
    said = f"{len(done)} of {len(cells)} cells are done"
    spent = [
        json.loads(path.read_text(encoding="utf-8")).get(split, 0.0)
        for folder in done
        if (path := folder / _SECONDS_JSON).is_file()
    ]
    if not spent:
        return said
    left = sum(spent) / len(spent) * (len(cells) - len(done))
    return f"{said}, about {timedelta(seconds=round(left))} left"


def _report(config: Ablation, cells: Sequence[Cell], output: Path, split: Split) -> Path:
    results = results_of(config, cells, output, split)
    return write_report(results, output) if results else markdown_path(output, split)
