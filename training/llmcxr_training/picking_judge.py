"""The judge that a checkpoint is to carry, and why it is not the one that measures.

A checkpoint may pick the best of several drawn images by a judge. Whatever is picked by a network
pleases that network, so the judge of every published figure has to be another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmcxr_models.checkpoint import sha256
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import JUDGE_JSON, JUDGE_WEIGHTS, Judge, JudgeConfig
from llmcxr_models.preprocess import Preprocessing


@dataclass(frozen=True)
class TrainedJudge:
    """A judge with what its run says of it.

    Attributes:
        judge: the network.
        described: content of `judge.json`.
        digest: SHA-256 of its weights' file.
    """

    judge: Judge
    described: dict[str, Any]
    digest: str

    @classmethod
    def load(cls, folder: Path) -> TrainedJudge:
        """Read `judge.json` and `judge.safetensors`.

        Raises:
            InvalidCheckpoint: a file is missing, damaged, or does not fit the other.
        """
        judge = Judge.load(folder)
        described = json.loads((folder / JUDGE_JSON).read_text(encoding="utf-8"))
        return cls(judge, described, sha256(folder / JUDGE_WEIGHTS))

    @property
    def provenance(self) -> dict[str, Any]:
        """For a manifest."""
        known = {k: self.described.get(k) for k in ("steps", "seed", "val_auroc")}
        return {**known, "sha256": self.digest}

    def check_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Whether it saw pictures as the checkpoint makes them.

        Raises:
            InvalidCheckpoint: it did not, or does not say.
        """
        stated = self.described.get("preprocessing")
        ours = {"pipeline": preprocessing.pipeline, "geometry": preprocessing.geometry}
        if not isinstance(stated, dict) or {k: stated.get(k) for k in ours} != ours:
            raise InvalidCheckpoint("the judge was trained with another preprocessing.")

    def check_may_pick(self, measuring: TrainedJudge) -> None:
        """Whether it is another network than the one that measures.

        Raises:
            InvalidCheckpoint: it was trained to measure; its weights are the other's; or it comes
                of the same architecture and seed, and so may be another step of the same run.
        """
        if self.described.get("measures") is True:
            raise InvalidCheckpoint("this judge was trained to measure, so it may not pick.")
        same_run = _geometry(self) == _geometry(measuring) and self._seed() == measuring._seed()
        if same_run or self.judge.is_same_as(measuring.judge):
            raise InvalidCheckpoint("this judge is the one that measures, so it may not pick.")

    def _seed(self) -> object:
        return self.described.get("seed")


def picking_judge(
    folder: Path, measured_by: Path | None, preprocessing: Preprocessing
) -> tuple[TrainedJudge, TrainedJudge]:
    """The judge that a checkpoint is to carry, and the one that measures the checkpoint.

    Args:
        folder: of the judge that is to pick.
        measured_by: of the one that measures.
        preprocessing: of the checkpoint.

    Raises:
        InvalidCheckpoint: a judge cannot be read, the first saw other pictures, or it is not
            certain that they are two.
    """
    if measured_by is None:
        raise InvalidCheckpoint("a judge can only pick where it is said which one measures.")
    picking, measuring = TrainedJudge.load(folder), TrainedJudge.load(measured_by)
    picking.check_preprocessing(preprocessing)
    picking.check_may_pick(measuring)
    return picking, measuring


def _geometry(trained: TrainedJudge) -> JudgeConfig:
    """Without thresholds, which validation chose."""
    return replace(trained.judge.config, thresholds=())
