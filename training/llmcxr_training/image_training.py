"""What every training run on radiographs alone depends on: VQ-GAN, judges and gate."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from llmcxr_models.preprocess import Geometry
from llmcxr_models.radiograph import Pipeline
from llmcxr_training.datasets import Data


class ImageTraining(BaseModel):
    """Settings that all of them have; misspelt ones are refused.

    Attributes:
        data: where the radiographs are.
        output: folder to write; where a run keeps its state, it goes on from there.
        pipeline: how display values come out of a file.
        geometry: how these become a square.
        seed: of weights, batches and augmentation.
        threads: of the processor; None for torch's own choice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Data
    output: Path
    pipeline: Pipeline = Pipeline.DISPLAY
    geometry: Geometry = Geometry.SQUASH
    seed: int = 0
    threads: int | None = None
