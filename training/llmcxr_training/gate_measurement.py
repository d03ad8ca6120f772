"""`llmcxr-train measure-gate`: what a gate refuses, on pictures that it never learnt from.

Frontal radiographs of the test split against everything else; nothing here chooses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmcxr_models.gate import GateConfig, Look, chest_probability, judge
from llmcxr_models.preprocess import Preprocessing
from llmcxr_training.data import Study
from llmcxr_training.datasets import Data
from llmcxr_training.gate_pictures import DRAWN, Grey, invert, read_folder, turn
from llmcxr_training.gate_settings import GateTraining
from llmcxr_training.metrics.classification import auroc
from llmcxr_training.metrics.intervals import Indices, bootstrap, bootstrap_mean
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.run_state import write_json
from llmcxr_training.trained_gate import TrainedGate

METRICS = "gate-metrics.json"
_LATERAL = list(Look).index(Look.LATERAL)
_SEED_OF_TEST = 1_000_000
"""Far from every seed of training: what is drawn here was never drawn there."""


@dataclass(frozen=True)
class Group:
    """Pictures of one kind: pixels (N, 1, S, S), and which of them belong together."""

    pixels: Tensor
    units: Sequence[Hashable]


def measure_gate(config: GateTraining) -> Path:
    """Write `gate-metrics.json` beside the gate, and return it.

    Raises:
        InvalidCheckpoint: there is no gate in `config.output`.
    """
    gate = TrainedGate.load(config.output).gate
    groups = measured_groups(config)
    probabilities = {name: gate.probabilities(group.pixels) for name, group in groups.items()}
    units = {name: list(group.units) for name, group in groups.items()}
    path = config.output / METRICS
    write_json(path, _metrics(gate.config, probabilities, units))
    return path


def measured_groups(config: GateTraining) -> dict[str, Group]:
    """Everything that is measured, by name; `frontal` comes first."""
    preprocessing = Preprocessing(config.pipeline, config.geometry, config.image_size, 1)
    folder = config.output.parent / "pixels"

    def radiographs(data: Data, split: str) -> PixelCache:
        return PixelCache.open(data.studies((split,)), preprocessing, folder)

    test = radiographs(config.data, "test")
    frontal = _rows(test, lambda study: study.is_frontal)
    groups = {"frontal": frontal, "lateral": _rows(test, lambda study: not study.is_frontal)}
    if config.shift is not None:
        shift = radiographs(config.shift, "shift")
        groups |= {
            "shift frontal": _rows(shift, lambda study: study.is_frontal),
            "shift lateral": _rows(shift, lambda study: not study.is_frontal),
        }
    generator = torch.Generator().manual_seed(_SEED_OF_TEST)
    groups["inverted"] = Group(invert(frontal.pixels), frontal.units)
    groups["turned"] = Group(turn(frontal.pixels, generator), frontal.units)
    rng = np.random.default_rng(_SEED_OF_TEST)
    for kind, draw in DRAWN.items():
        groups[kind] = _drawn([draw(rng, config.image_size) for _ in range(config.drawn_each)])
    if config.pictures is not None:
        for kinds in sorted(p for p in (config.pictures / "test").iterdir() if p.is_dir()):
            each = config.crops_each
            cut = read_folder(kinds, config.image_size, each, rng)
            groups[kinds.name] = _drawn(cut, [i // (each + 1) for i in range(len(cut))])
    return {name: group for name, group in groups.items() if len(group.pixels)}


def _rows(cache: PixelCache, wanted: Callable[[Study], bool]) -> Group:
    rows = [i for i, study in enumerate(cache.studies) if wanted(study)]
    pixels = cache.batch(rows, 1) if rows else torch.empty(0, 1, 1, 1)
    return Group(pixels, [cache.studies[row].patient_id for row in rows])


def _drawn(greys: Sequence[Grey], units: Sequence[Hashable] | None = None) -> Group:
    pixels = torch.from_numpy(np.stack(greys)).float().unsqueeze(1) / 127.5 - 1.0
    return Group(pixels, units if units is not None else list(range(len(greys))))


def _metrics(
    config: GateConfig, probabilities: dict[str, Tensor], units: dict[str, list[Hashable]]
) -> dict[str, Any]:
    scores = {name: chest_probability(p).double().numpy() for name, p in probabilities.items()}
    laterals = {name: p[:, _LATERAL].double().numpy() for name, p in probabilities.items()}
    found: dict[str, Any] = {}
    for name, values in probabilities.items():
        verdicts = [judge(row, config) for row in values]
        found[name] = {
            "refused": _share([v.refused for v in verdicts], units[name]),
            "doubted": _share([v.doubtful and not v.refused for v in verdicts], units[name]),
            "lateral_warning": _share([v.lateral for v in verdicts], units[name]),
        }
        if name in ("frontal", "shift frontal"):
            continue
        # A lateral is a chest too; what sets it apart is its own probability.
        by = {k: -v for k, v in laterals.items()} if "lateral" in name else scores
        reference = "shift frontal" if name == "shift lateral" else "frontal"
        pairs = ((by[reference], units[reference]), (by[name], units[name]))
        found[name]["auroc"] = separation(*pairs)
    return found


def _share(flags: Sequence[bool], units: Sequence[Hashable]) -> dict[str, float | int]:
    return bootstrap_mean(np.asarray(flags, np.float64), groups=units).to_dict()


def separation(
    positives: tuple[NDArray[np.float64], Sequence[Hashable]],
    negatives: tuple[NDArray[np.float64], Sequence[Hashable]],
) -> dict[str, float | int]:
    """AUROC of scores, positives higher, with an interval over patients or source pictures."""
    values = np.concatenate([positives[0], negatives[0]])
    truth = np.concatenate([np.ones(len(positives[0])), np.zeros(len(negatives[0]))])
    groups = [("positive", u) for u in positives[1]] + [("negative", u) for u in negatives[1]]

    def statistic(rows: Indices) -> float:
        return auroc(truth[rows], values[rows])

    return bootstrap(statistic, len(values), groups=groups).to_dict()
