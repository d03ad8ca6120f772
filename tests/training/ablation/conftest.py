"""A grid on drawn pictures, two cells of a few steps, and a judge for its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from tests.judges import SMALL, drawn_judge
from tests.training.conftest import write_vqgan

from llmcxr_models.judge import JUDGE_JSON, JUDGE_WEIGHTS
from llmcxr_training.ablation.settings import Ablation
from llmcxr_training.run_state import write_json
from llmcxr_training.synthetic import synthesise

MakeGrid = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn data, a base model, a VQ-GAN and a judge; only caches are written to it."""
    folder = tmp_path_factory.mktemp("drawn")
    synthesise(folder / "data", patients=33)
    write_vqgan(folder / "vqgan")
    judge = folder / "judge"
    judge.mkdir()
    save_file(drawn_judge().state_dict(), judge / JUDGE_WEIGHTS)
    write_json(judge / JUDGE_JSON, {"judge": SMALL.to_dict(), "steps": 0})
    text = " ".join(f"The heart is normal in size and number {n} is clear." for n in range(60))
    (folder / "text.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def make_grid(drawn_folder: Path) -> MakeGrid:
    """Values of a grid's configuration; keywords win, table by table."""

    def make(**changed: Any) -> dict[str, Any]:
        folder, text = drawn_folder, str(drawn_folder / "text.txt")
        values: dict[str, Any] = {
            "factors": {"stages": [1, 2], "refined": [0.5]},
            "seeds": [0],
            "compute": {"unit": "tokens", "amount": 12_000},
            "refined": {"first_study_only": True},
            "finetune": {
                "base": str(folder / "data/base"),
                "vqgan": str(folder / "vqgan"),
                "instructions": str(folder / "data/instructions.jsonl"),
                "data": {"kind": "jsonl", "manifest": str(folder / "data/manifest.jsonl")},
                "refinement": {"views": ["frontal", "lateral"]},
                "lora": None,
                "batch_size": 4,
                "micro_batch_size": 4,
                "warmup_steps": 1,
                "validation_examples": 2,
                "validate_every_steps": 1000,
                "save_every_seconds": 0.0,
                "threads": 1,
                "device": "cpu",
                "precision": "float32",
            },
            "measure": {
                "texts": {"val": text, "test": text},
                "text_tokens": 256,
                "text_window": 64,
                "reports": 3,
                "report_tokens": 8,
                "images": 6,
                "judge": str(folder / "judge"),
                "least_positives": 1,
                "batch_size": 2,
                "resamples": 50,
                "folds": 3,
            },
        }
        return {**values, **changed}

    return make


@pytest.fixture(scope="session")
def grid(make_grid: MakeGrid) -> Ablation:
    return Ablation.model_validate(make_grid())
