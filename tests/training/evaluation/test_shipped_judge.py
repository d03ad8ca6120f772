"""What a fresh clone needs: the measuring judge, and settings without a machine's paths."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.judge import Judge
from llmcxr_training.config_file import read_config
from llmcxr_training.evaluation.settings import Evaluation

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "training" / "configs" / "evaluate-demo.toml"


def test_the_judge_is_there_and_fits_the_demo_checkpoint() -> None:
    settings = read_config(CONFIG, Evaluation, [])
    folder = ROOT / settings.judge
    judge = Judge.load(folder)
    assert set(judge.config.findings) <= set(FINDINGS)
    assert len(judge.config.thresholds) == len(judge.config.findings)
    scores = judge.scores(torch.zeros(2, 1, 256, 256))
    assert scores.shape == (2, len(judge.config.findings))
    stated = json.loads((folder / "judge.json").read_text())["preprocessing"]
    demo = json.loads((ROOT / "models" / "demo" / "manifest.json").read_text())["preprocessing"]
    assert {k: stated[k] for k in ("pipeline", "geometry", "image_size")} == {
        k: demo[k] for k in ("pipeline", "geometry", "image_size")
    }


def test_no_path_of_one_machine() -> None:
    settings = read_config(CONFIG, Evaluation, [])
    paths = (settings.judge, settings.base, settings.output, settings.data.manifest)
    assert not [path for path in (*paths, settings.language.test) if path.is_absolute()]
    for file in (ROOT / "models" / "judge").iterdir():
        if file.suffix in {".json", ".md"}:
            # A slash that begins a path: of no link that is relative, and of no address.
            assert not re.search(r"(?<![\w./])/\w", file.read_text())
