"""What a grid found so far: figures by combination, and their differences to the first one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.ablation.cell import cases_path
from llmcxr_training.ablation.figures import Figure, Measured, difference, figures_of, value
from llmcxr_training.ablation.grid import CELLS, Cell, label_of
from llmcxr_training.ablation.settings import Ablation, AblationError
from llmcxr_training.evaluation.settings import Split
from llmcxr_training.stage import COMPUTE_JSON

_DIGITS = 6

Arrays = dict[str, NDArray[Any]]
Results = dict[str, Any]
"""The content of `ablation.json`."""


def results_of(
    config: Ablation, cells: Sequence[Cell], output: Path, split: Split
) -> Results | None:
    """Of the combinations whose every seed is measured; None while there is none.

    Raises:
        AblationError: two cells were measured on other cases.
    """
    factors = config.factors.levels()
    fixed = {name: levels[0] for name, levels in factors.items() if len(levels) == 1}
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        varied = {name: level for name, level in cell.levels.items() if name not in fixed}
        alike.setdefault(label_of(varied or cell.levels), []).append(cell)
    done = {
        label: [_cases(output / CELLS / cell.name, split) for cell in of_seeds]
        for label, of_seeds in alike.items()
        if all(cases_path(output / CELLS / c.name, split).is_file() for c in of_seeds)
    }
    if not done:
        return None
    _check_alike([cases for of_seeds in done.values() for cases in of_seeds])
    reference = next(iter(done))
    figures = figures_of(done[reference][0], config.measure)
    return {
        "split": split,
        "seeds": list(config.seeds),
        "budget": config.compute.model_dump(),
        "reference": reference,
        "fixed": fixed,
        "cells": {"done": sum(map(len, done.values())), "all": len(cells)},
        "figures": {
            f.key: {"title": f.title, "lower_is_better": f.lower_is_better} for f in figures
        },
        "rows": [
            {
                "label": label,
                "levels": alike[label][0].levels,
                "compute": [_compute(cell, output) for cell in alike[label]],
                "figures": _figures(config, figures, of_seeds, done[reference]),
            }
            for label, of_seeds in done.items()
        ],
    }


def _figures(
    config: Ablation,
    figures: Sequence[Figure],
    cells: Sequence[Arrays],
    reference: Sequence[Arrays],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for figure in figures:
        found[figure.key] = _entry(value(figure, cells, config.measure))
        if cells is not reference:
            gap = difference(figure, cells, reference, config.measure)
            found[figure.key]["difference"] = _entry(gap)
    return found


def _entry(measured: Measured) -> dict[str, Any]:
    entry: dict[str, Any] = {
        name: _number(number) for name, number in measured.interval.to_dict().items()
    }
    return entry | {"seeds": [_number(number) for number in measured.seeds]}


def _number(number: float) -> float | None:
    """JSON has no NaN."""
    return round(number, _DIGITS) if np.isfinite(number) else None


def _cases(folder: Path, split: Split) -> Arrays:
    path = cases_path(folder, split)
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise AblationError(f"{path} is damaged; remove it") from error


def _check_alike(cells: Sequence[Mapping[str, NDArray[Any]]]) -> None:
    """Pairs are of the same patients."""
    for name, values in cells[0].items():
        if name.endswith((".patients", ".truth", ".targets")):
            others = [cell.get(name) for cell in cells[1:]]
            equal_nan = values.dtype.kind == "f"
            if any(o is None or not np.array_equal(values, o, equal_nan) for o in others):
                raise AblationError("the cells were measured on other cases; use another folder")


def _compute(cell: Cell, output: Path) -> dict[str, float]:
    """Of all stages together."""
    total = {"steps": 0.0, "sequences": 0.0, "tokens": 0.0, "flops": 0.0}
    for number in range(1, len(cell.stages) + 1):
        path = output / CELLS / cell.name / f"stage{number}" / COMPUTE_JSON
        spent = json.loads(path.read_text(encoding="utf-8"))
        total = {name: total[name] + spent[name] for name in total}
    return total
