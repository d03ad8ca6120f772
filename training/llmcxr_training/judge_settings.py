"""Everything that a judge's run depends on: the TOML file of `llmcxr-train judge`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from llmcxr_models.finding_mentions import NO_FINDING, SUPPORT_DEVICES
from llmcxr_models.judge import Normalisation
from llmcxr_training.image_training import ImageTraining
from llmcxr_training.judge_pictures import JudgeAugmentation
from llmcxr_training.precision import Precision


class JudgeArchitecture(BaseModel):
    """The `[architecture]` table; see `JudgeConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_size: int = 192
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 2
    norm_groups: int = 8
    dropout: float = 0.2
    orientations: int = 0
    normalisation: Normalisation = "group"


class JudgeTraining(ImageTraining):
    """Everything that a judge's run depends on.

    Attributes:
        findings: what is learnt; fixed in advance, never chosen by the test split.
        steps: optimiser steps in all.
        largest_positive_weight: limit of the weight of a finding's positives, which else is
            the number of its negatives for each positive.
        auxiliary_weight: of the mean loss of the questions in `auxiliary_targets`; 0 asks none.
        least_auxiliary_positives: index terms that fewer train radiographs have are not asked for.
        average_decay: of the running means of the weights; those are what is validated and kept.
        least_val_positives: findings with fewer in the val split do not choose the best step.
        measures: whether checkpoints are measured by it; then none may carry it.
        save_every_seconds: a killed run loses at most this much.
    """

    image_size: int = 256
    findings: tuple[str, ...] = (
        NO_FINDING,
        "Cardiomegaly",
        "Lung Lesion",
        "Lung Opacity",
        "Atelectasis",
        "Pleural Effusion",
        "Edema",
        SUPPORT_DEVICES,
    )
    architecture: JudgeArchitecture = JudgeArchitecture()
    augmentation: JudgeAugmentation = JudgeAugmentation()
    steps: int = 4500
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    largest_positive_weight: float = 8.0
    auxiliary_weight: float = 0.0
    least_auxiliary_positives: int = 20
    average_decay: float = 0.998
    least_val_positives: int = 10
    validate_every_steps: int = 250
    measures: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    save_every_seconds: float = 120.0
