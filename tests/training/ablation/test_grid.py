"""What a grid's configuration means, and how bad ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.ablation.conftest import MakeGrid

from llmcxr_training.ablation.grid import cells_of
from llmcxr_training.ablation.run import ablate, described
from llmcxr_training.ablation.settings import Ablation, AblationError
from llmcxr_training.config_file import ConfigError, read_config

TREE = Path(__file__).parents[3]


def resolved(values: dict[str, Any], output: Path = Path("out")) -> dict[str, Any]:
    """Stages by cell."""
    config = Ablation.model_validate(values)
    return {cell.name: cell.stages for cell in cells_of(config, output)}


def test_all_combinations_with_all_seeds(make_grid: MakeGrid) -> None:
    factors = {"refined": [0, 0.25, 1], "mixing": ["40/40/20", "50/50/0"]}
    found = resolved(make_grid(factors=factors, seeds=[0, 7]))
    assert len(found) == 12
    stages = found["refined-0.25_mixing-50-50-0_seed-7"]
    assert len(stages) == 1
    assert stages[0].seed == 7
    assert stages[0].refined_share == 0.25
    assert stages[0].mixing.instructions == 0
    assert stages[0].output == Path("out/cells/refined-0.25_mixing-50-50-0_seed-7/stage1")


def test_two_stages_share_the_compute_of_one(make_grid: MakeGrid) -> None:
    factors = {"stages": [1, 2], "refined": [0.0, 0.25, 1.0]}
    found = resolved(make_grid(factors=factors, second_stage={"learning_rate": 1e-5}))
    first, second = found["stages-2_refined-0.25_seed-0"]
    (alone,) = found["stages-1_refined-0.25_seed-0"]
    assert first.budget.amount + second.budget.amount == pytest.approx(alone.budget.amount)
    assert second.budget.amount == pytest.approx(0.25 * alone.budget.amount)
    assert second.initial == first.output
    assert second.refinement.first_study_only
    assert not first.refinement.first_study_only
    assert (second.learning_rate, second.seed != first.seed) == (1e-5, True)
    assert len(found["stages-2_refined-0.0_seed-0"]) == 1
    (only,) = found["stages-2_refined-1.0_seed-0"]
    assert only.refinement.first_study_only


def test_bases_and_image_tokens_name_their_folders(make_grid: MakeGrid) -> None:
    factors = {"base": ["whole", "every-2", "scratch-every-2"], "image_tokens": [16]}
    found = resolved(make_grid(factors=factors, seeds=[3], vqgans={"16": "vq16"}))
    bases = [stages[0].base for stages in found.values()]
    assert bases[1:] == [Path("out/bases/every-2"), Path("out/bases/scratch-every-2-seed-3")]
    assert bases[0].name == "base"
    assert {stages[0].vqgan for stages in found.values()} == {Path("vq16")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"factors": {"depth": [1]}}, "no factor depth; there are stages, refined"),
        ({"factors": {}}, "one factor at least"),
        ({"factors": {"stages": [3]}}, "factors.stages"),
        ({"factors": {"stages": [2]}}, "needs a level of refined"),
        ({"factors": {"refined": [25]}}, "between 0 and 1"),
        ({"factors": {"refined": [0.5, 0.5]}}, "named once"),
        ({"factors": {"mixing": ["40/40/40"]}}, "three percentages"),
        ({"factors": {"base": ["half"]}}, "whole, every-K or scratch-every-K"),
        ({"factors": {"image_tokens": [64]}}, "names none for image_tokens 64"),
        ({"factors": {"self_instruct": [0.5]}}, "needs finetune.self_instructions"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "a seed is named once"),
        ({"compute": {"unit": "hours", "amount": 3}}, "compute.unit"),
        ({"compute": {"unit": "tokens", "amount": 0}}, "compute.amount"),
    ],
)
def test_a_bad_grid_is_refused(
    make_grid: MakeGrid, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(as_toml(make_grid(**changed), tmp_path), Ablation, [])


def test_drawn_weights_need_all_weights_trained(make_grid: MakeGrid) -> None:
    values = make_grid(factors={"base": ["scratch-every-2"]})
    values["finetune"] = {k: v for k, v in values["finetune"].items() if k != "lora"}
    with pytest.raises(ValueError, match="drawn weights"):
        Ablation.model_validate(values)


def test_settings_of_fine_tuning_are_checked(make_grid: MakeGrid) -> None:
    values = make_grid()
    for extra, said in (({"steps": 3}, "decided by the grid"), ({"stepz": 3}, "finetune.stepz")):
        changed = {**values, "finetune": values["finetune"] | extra}
        with pytest.raises(AblationError, match=said):
            cells_of(Ablation.model_validate(changed), Path("out"))


def test_what_is_missing_is_said_before_anything_runs(
    make_grid: MakeGrid, tmp_path: Path, drawn_folder: Path
) -> None:
    values = make_grid()
    gone = {**values, "finetune": values["finetune"] | {"instructions": "gone.jsonl"}}
    with pytest.raises(AblationError, match=r"there is no gone\.jsonl"):
        ablate(Ablation.model_validate(gone), tmp_path / "a")
    vqgans = {"64": str(drawn_folder / "vqgan")}
    other = make_grid(factors={"image_tokens": [64]}, vqgans=vqgans)
    with pytest.raises(AblationError, match="of 64 image tokens makes 16"):
        ablate(Ablation.model_validate(other), tmp_path / "b")
    deep = make_grid(factors={"base": ["every-9"]})
    with pytest.raises(AblationError, match="no every-9 of 2 layers"):
        ablate(Ablation.model_validate(deep), tmp_path / "c")


def test_another_grid_in_the_folder_is_refused(make_grid: MakeGrid, tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text(
        json.dumps(Ablation.model_validate(make_grid()).model_dump(mode="json"))
    )
    other = Ablation.model_validate(make_grid(seeds=[0, 1]))
    with pytest.raises(AblationError, match="another seeds; use another folder"):
        ablate(other, tmp_path)


def test_the_test_split_comes_last(make_grid: MakeGrid, tmp_path: Path) -> None:
    with pytest.raises(AblationError, match="test comes last"):
        ablate(Ablation.model_validate(make_grid()), tmp_path, split="test")


@pytest.mark.parametrize("name", ["ablate-stages", "ablate-refined"])
def test_the_shipped_grids_can_be_read(name: str) -> None:
    config = read_config(TREE / f"training/configs/{name}.toml", Ablation, [])
    assert len(config.seeds) >= 2
    said = described(config, Path("out"))
    assert said.splitlines()[-1].startswith(f"{len(cells_of(config, Path('out')))} cells of")


def as_toml(values: dict[str, Any], folder: Path) -> Path:
    """Written as a file; TOML has JSON's values, but no null."""
    path = folder / "grid.toml"
    path.write_text("\n".join(_lines(values, ())) + "\n")
    return path


def _lines(values: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in values.items() if not isinstance(v, dict)}
    lines = [f"[{'.'.join(names)}]"] if names else []
    lines += [f"{k} = {json.dumps('none' if v is None else v)}" for k, v in plain.items()]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _lines(value, (*names, key))
    return lines
