"""Everything that a gate's run depends on: the TOML file of `llmcxr-train gate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from llmcxr_training.datasets import Data
from llmcxr_training.image_training import ImageTraining


class GateTraining(ImageTraining):
    """Everything that a gate's run depends on.

    Attributes:
        data: radiographs, frontal and lateral: train and val to learn, test to measure.
        shift: radiographs of other hospitals, for measuring alone.
        pictures: folder of pictures that are no chest radiographs, `train/KIND/` and
            `test/KIND/`; absent, only drawn ones are learnt from.
        image_size: of the checkpoint that the gate is for, as are `pipeline` and `geometry`.
        crops_each: pieces taken of each of `pictures`.
        drawn_each: pictures drawn of each kind: noise, gradients, documents.
        keep: share of the val split's frontal radiographs that must not be refused.
        keep_without_doubt: share of them that must be answered without a warning.
    """

    shift: Data | None = None
    pictures: Path | None = None
    image_size: int = 256
    input_size: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 96)
    crops_each: int = 40
    drawn_each: int = 300
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 50
    keep: float = Field(default=0.995, gt=0.5, le=1.0)
    keep_without_doubt: float = Field(default=0.98, gt=0.5, le=1.0)
