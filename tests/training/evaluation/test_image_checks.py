"""Memorisation, other extractors, and the F1 of drawn findings, each by itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_training.config_file import ConfigError, read_config
from llmcxr_training.evaluation.extractors import load_extractor
from llmcxr_training.evaluation.figures import Figures, Resampling
from llmcxr_training.evaluation.image_measures import (
    Distances,
    Pictures,
    distance_measures,
    finding_f1_measures,
)
from llmcxr_training.evaluation.memorisation import memorisation_measures, neighbours
from llmcxr_training.evaluation.pictures import Seen
from llmcxr_training.evaluation.settings import ExtractorSettings

CPU = torch.device("cpu")
HOW = Resampling(resamples=50, folds=5)


def drawn(count: int, seed: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_copies_are_found() -> None:
    train, unseen = drawn(200, 0), drawn(100, 1)
    copies = train[:40] + 1e-3
    figures = Figures()
    near = neighbours(copies, train)
    assert near.rows.tolist() == list(range(40))
    args = (neighbours(unseen, train), list(range(40)), list(range(100)), HOW)
    memorisation_measures(figures, near, *args)
    assert figures.values["image.nearest_train.rate"].value == 1.0
    assert figures.values["image.nearest_train"].value < 0.01
    assert figures.values["image.nearest_train.real"].value > 0.1
    assert near.closest(3) == np.argsort(near.distances)[:3].tolist()


def test_new_images_are_no_copies() -> None:
    train, unseen, new = drawn(200, 0), drawn(100, 1), drawn(100, 2)
    figures = Figures()
    people = list(range(100))
    args = (neighbours(unseen, train), people, people, HOW)
    memorisation_measures(figures, neighbours(new, train), *args)
    assert figures.values["image.nearest_train.rate"].value < 0.15


def test_keys_name_the_extractor() -> None:
    figures = Figures()
    people = list(range(30))
    real, again = Pictures(drawn(30, 0), people), Pictures(drawn(30, 1), people)
    distance_measures(figures, real, {"generated": again}, Distances(HOW, 3, "xrv"))
    distance_measures(figures, real, {"generated": again}, Distances(HOW, 3))
    assert set(figures.values) == {
        *(f"image.{name}_xrv" for name in ("fd", "kid", "precision", "recall", "density")),
        "image.coverage_xrv",
        *(f"image.{name}" for name in ("fd_judge", "kid_judge", "precision", "recall")),
        "image.density",
        "image.coverage",
    }


def test_f1_of_drawn_findings() -> None:
    targets = np.array([[1, 0]] * 10 + [[0, 0]] * 10, np.float32)
    scores = np.array([[0.9, 0.1]] * 10 + [[0.2, 0.1]] * 10, np.float32)
    seen = Seen(np.zeros((20, 2), np.float32), scores)
    figures = Figures()
    names = ("Cardiomegaly", "Edema")
    args = (targets, names, (0.5, 0.5), list(range(20)), HOW, 5)
    finding_f1_measures(figures, {"generated": seen}, *args)
    assert figures.values["image.finding_f1"].value == 1.0
    assert "image.finding_f1.edema" not in figures.values
    none = (targets, names, (), list(range(20)), HOW, 5)
    finding_f1_measures(figures, {"generated": seen}, *none)
    assert figures.not_measured["image.finding_f1"] == "the judge has no thresholds"


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    """A RAD-DINO of a few thousand weights."""
    folder = tmp_path / "rad-dino"
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(folder)
    how = {
        "crop_size": {"height": 28, "width": 28},
        "image_mean": [0.5307] * 3,
        "image_std": [0.2583] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    return folder


def test_rad_dino_by_path(dinov2: Path) -> None:
    found = load_extractor(ExtractorSettings(kind="rad-dino", path=dinov2), CPU)
    assert found is not None
    assert found.name == "rad_dino"
    pixels = torch.rand(3, 1, 40, 40) * 2 - 1
    features = found.features(pixels)
    assert features.shape == (3, 16)
    assert torch.isfinite(features).all()
    # A vector of its own image only.
    torch.testing.assert_close(found.features(pixels[:1]), features[:1], atol=1e-4, rtol=1e-4)


def test_extractors_that_are_not_there(dinov2: Path, tmp_path: Path) -> None:
    assert load_extractor(ExtractorSettings(), CPU) is None
    with pytest.raises(InvalidCheckpoint, match="nothing at"):
        load_extractor(ExtractorSettings(kind="rad-dino", path=tmp_path / "none"), CPU)
    (dinov2 / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidCheckpoint, match="missing or damaged"):
        load_extractor(ExtractorSettings(kind="rad-dino", path=dinov2), CPU)
    if "torchxrayvision" not in sys.modules:
        weights = tmp_path / "densenet.pt"
        weights.write_bytes(b"no weights")
        with pytest.raises(InvalidCheckpoint):
            load_extractor(ExtractorSettings(kind="xrv", path=weights), CPU)


def test_an_extractor_needs_a_path(tmp_path: Path) -> None:
    file = tmp_path / "extractor.toml"
    file.write_text('kind = "xrv"\n')
    with pytest.raises(ConfigError, match="need a path"):
        read_config(file, ExtractorSettings, [])
