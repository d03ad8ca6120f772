"""A whole grid on drawn pictures: one cell in this process, and all of them by the command, which
is killed in both ways and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.training.ablation.conftest import MakeGrid
from tests.training.ablation.test_grid import as_toml

from llmcxr_training.ablation.cell import cases_path, locked, read_cell, run_cell
from llmcxr_training.ablation.grid import cells_of
from llmcxr_training.ablation.report import write_report
from llmcxr_training.ablation.results import results_of
from llmcxr_training.ablation.run import _prepare, _progress, ablate
from llmcxr_training.ablation.settings import Ablation, AblationError
from llmcxr_training.run_state import load_state, write_json

ONE, TWO = "stages-1_refined-0.5_seed-0", "stages-2_refined-0.5_seed-0"
PATIENCE = 300.0


@pytest.fixture(scope="module")
def whole(grid: Ablation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cells, one after the other in this process, never interrupted."""
    output = tmp_path_factory.mktemp("whole")
    cells = cells_of(grid, output)
    _prepare(grid, cells, output)
    write_json(output / "ablation.json", grid.model_dump(mode="json"))
    for cell in cells:
        run_cell(output / "cells" / cell.name)
    return output


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def test_a_cell_is_measured_case_by_case(whole: Path) -> None:
    cell = read_cell(whole / "cells" / TWO)
    assert [stage.output.name for stage in cell.stages] == ["stage1", "stage2"]
    cases = read(cases_path(whole / "cells" / TWO, "val"))
    studies = len(cases["loss.patients"])
    assert studies > 3
    assert len(cases["questions.patients"]) == studies
    assert len(cases["reports.patients"]) == 3
    assert len(cases["images.patients"]) == 6
    assert cases["loss.image_nll"].mean() / 16 < 1.2 * np.log(16)
    assert all(
        np.isfinite(v).all() for k, v in cases.items() if v.dtype.kind == "f" and "target" not in k
    )
    # Both cells began with the same base.
    other = read(cases_path(whole / "cells" / ONE, "val"))
    assert np.array_equal(cases["language.before"], other["language.before"])
    assert not np.array_equal(cases["language.nll"], cases["language.before"])


def test_what_is_done_is_not_done_again(whole: Path) -> None:
    folder = whole / "cells" / ONE
    before = (folder / "stage1/state.pt").stat().st_mtime_ns
    kept = cases_path(folder, "val").stat().st_mtime_ns
    run_cell(folder)
    assert cases_path(folder, "val").stat().st_mtime_ns == kept
    assert (
        load_state(folder / "stage1")["step"]
        == json.loads((folder / "stage1/compute.json").read_text())["steps"]
    )
    assert before <= (folder / "stage1/state.pt").stat().st_mtime_ns


def test_the_table_has_every_figure_with_seeds_and_intervals(whole: Path, grid: Ablation) -> None:
    # Every cell is done: nothing is started.
    table = ablate(grid, whole)
    results = json.loads((whole / "ablation-val.json").read_text())
    assert set(results["figures"]) >= {
        *("image_loss", "text_loss", "question_auroc", "perplexity_ratio"),
        *("label_f1", "image_fd", "finding_auroc"),
    }
    first, second = results["rows"]
    assert [row["label"] for row in results["rows"]] == ["stages 1", "stages 2"]
    assert results["fixed"] == {"refined": 0.5}
    for key, entry in second["figures"].items():
        assert len(entry["seeds"]) == 1
        assert {"value", "low", "high", "n"} <= set(entry)
        assert "difference" in entry
        assert "difference" not in first["figures"][key]
    tokens = [row["compute"][0]["tokens"] for row in results["rows"]]
    assert max(tokens) / min(tokens) < 1.5
    text = table.read_text()
    assert "| image loss, nats a token ↓ |" in text
    assert "a sign test cannot go below p = 1" in text
    assert (whole / "ablation-val.svg").read_text().startswith("<?xml")


def test_cells_with_other_cases_are_not_compared(
    whole: Path, grid: Ablation, tmp_path: Path
) -> None:
    for name in (ONE, TWO):
        folder = tmp_path / "cells" / name
        folder.mkdir(parents=True)
        cases = read(cases_path(whole / "cells" / name, "val"))
        if name == TWO:
            cases["loss.patients"] = cases["loss.patients"][::-1]
        np.savez(cases_path(folder, "val"), **cases)
    with pytest.raises(AblationError, match="other cases"):
        results_of(grid, cells_of(grid, tmp_path), tmp_path, "val")


def test_the_test_split_is_measured_of_trained_cells(whole: Path, grid: Ablation) -> None:
    for name in (ONE, TWO):
        run_cell(whole / "cells" / name, "test")
    results = results_of(grid, cells_of(grid, whole), whole, "test")
    assert results is not None
    assert write_report(results, whole).name == "ablation-test.md"
    val = read(cases_path(whole / "cells" / ONE, "val"))
    test = read(cases_path(whole / "cells" / ONE, "test"))
    assert not set(val["loss.patients"]) & set(test["loss.patients"])


def test_the_time_left_is_that_of_cells_that_are_done(grid: Ablation, tmp_path: Path) -> None:
    cells = cells_of(grid, tmp_path)
    assert _progress(cells, tmp_path, "val") == "0 of 2 cells are done"
    done = tmp_path / "cells" / ONE
    write_json(done / "seconds.json", {"val": 3700.0})
    cases_path(done, "val").touch()
    assert _progress(cells, tmp_path, "val") == "1 of 2 cells are done, about 1:01:40 left"


def test_two_processes_do_not_share_a_folder(grid: Ablation, whole: Path) -> None:
    with locked(whole / "lock"), pytest.raises(AblationError, match="another process works"):
        ablate(grid, whole)


def test_a_grid_that_is_stopped_and_killed_ends_as_one_that_was_not(
    make_grid: MakeGrid, whole: Path, tmp_path: Path
) -> None:
    config, output = as_toml(make_grid(), tmp_path), tmp_path / "grid"
    cells = output / "cells"

    # SIGTERM in the first cell: its state is saved, and both processes end.
    process = _start(config, output)
    _wait(process, lambda: (cells / ONE / "stage1/state.pt").is_file())
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, errors[-2000:]
    assert "Traceback" not in errors
    assert "0 of 2 cells are done" in errors
    assert not cases_path(cells / TWO, "val").is_file()

    # SIGKILL in the second: nobody can be told, and the cell notices by itself.
    process = _start(config, output)
    _wait(process, lambda: (cells / TWO / "stage1/state.pt").is_file())
    process.kill()
    process.communicate(timeout=PATIENCE)
    done = cases_path(cells / ONE, "val").stat().st_mtime_ns

    process = _start(config, output)
    said, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, errors[-2000:]
    assert "| image loss, nats a token ↓ |" in said
    assert cases_path(cells / ONE, "val").stat().st_mtime_ns == done
    for name in (ONE, TWO):
        ours, theirs = (read(cases_path(f / "cells" / name, "val")) for f in (output, whole))
        for key, values in theirs.items():
            if values.dtype.kind == "f":
                assert ours[key] == pytest.approx(values, rel=1e-3, abs=1e-4, nan_ok=True), key


def _start(config: Path, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llmcxr_training", "ablate", str(config)]
    return subprocess.Popen(
        [*command, "--output", str(output), "--nice", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )


def _wait(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1][-2000:]
