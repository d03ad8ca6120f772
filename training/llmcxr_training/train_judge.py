"""`llmcxr-train judge`: train the classifier that judges images; resumable to the step.

Class-balanced binary cross-entropy on `targets` and `auxiliary_targets`, running means of the
weights, and the step with the best macro AUROC on the val split's frontal images is kept. The test
split is not read.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from llmcxr_models.judge import JUDGE_JSON, JUDGE_WEIGHTS, Judge, JudgeConfig
from llmcxr_models.preprocess import Preprocessing
from llmcxr_training.auxiliary_targets import AuxiliaryQuestions
from llmcxr_training.balanced_loss import balanced_loss, positive_weights
from llmcxr_training.data import DataError, describe
from llmcxr_training.judge_pictures import augmented
from llmcxr_training.judge_settings import JudgeTraining
from llmcxr_training.learning_rate import warm_cosine
from llmcxr_training.metrics.classification import (
    MACRO,
    auroc,
    best_f1_threshold,
    macro_auroc,
    measured_findings,
)
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.run_state import (
    git_state,
    load_state,
    save_state,
    seed_everything,
    write_json,
)
from llmcxr_training.targets import target_table
from llmcxr_training.training_loop import Loop, describe_run
from llmcxr_training.weight_average import WeightAverage

_log = logging.getLogger(__name__)


def train_judge(config: JudgeTraining) -> Path:
    """Train to `config.steps`, resuming what `config.output` holds; returns the weights' path."""
    if config.threads:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    describe_run(config.output, config.model_dump(mode="json"))
    studies = config.data.studies()
    _log.info("data: %s", describe(studies))
    preprocessing = Preprocessing(config.pipeline, config.geometry, config.image_size, 1)
    cache = PixelCache.open(studies, preprocessing, config.output.parent / "pixels")
    run = JudgeRun(config, cache)
    run.resume()
    run.train()
    return run.export()


class JudgeRun:
    """One run: the judge, its running mean, the optimiser, and the step they are at."""

    def __init__(self, config: JudgeTraining, cache: PixelCache) -> None:
        self.config = config
        self.cache = cache
        self.targets = target_table(cache.studies, config.findings)
        rows = np.flatnonzero(np.isfinite(self.targets).any(axis=1)).tolist()
        self.train_rows = [i for i in rows if cache.studies[i].split == "train"]
        self.val_rows = [
            i for i in rows if cache.studies[i].split == "val" and cache.studies[i].is_frontal
        ]
        if not self.train_rows or not self.val_rows:
            raise DataError("a judge needs radiographs with reports of both train and val")
        self.positive_weights = positive_weights(
            self.targets[self.train_rows], config.largest_positive_weight
        )
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        architecture = JudgeConfig(config.findings, **config.architecture.model_dump())
        self.judge = Judge(architecture).to(self.device)
        if architecture.normalisation == "batch":
            # A fifth faster on a CPU; with group normalisation it is slower.
            self.judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.judge, config.average_decay)
        self.auxiliary = self._auxiliary().to(self.device) if config.auxiliary_weight else None
        self.optimizer = torch.optim.AdamW(
            self._parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {
            "step": 0,
            "macro": -math.inf,
            "weights": self._average_weights(),
        }

    def resume(self) -> None:
        """Continue from the run folder's state, where there is one."""
        state = load_state(self.config.output)
        if state is None:
            return
        self.judge.load_state_dict(state["judge"])
        self.average.load_state_dict(state["average"])
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(state["auxiliary"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.step, self.seconds = state["best"], state["step"], state["seconds"]
        _log.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Write the state to resume from."""
        state = {
            "judge": self.judge.state_dict(),
            "average": self.average.state_dict(),
            "auxiliary": self.auxiliary.state_dict() if self.auxiliary is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "step": self.step,
            "seconds": self.seconds,
        }
        save_state(self.config.output, state)

    def train(self) -> None:
        """Step until `config.steps`.

        Raises:
            Stopped: by SIGTERM; the state is saved.
        """
        config = self.config
        Loop("judge", config.output, config.steps, config.save_every_seconds, 20).run(self)

    def after_step(self, _writer: SummaryWriter | None) -> dict[str, float]:
        """Validate where it is time."""
        config = self.config
        if self.step % config.validate_every_steps and self.step != config.steps:
            return {}
        return {f"val_auroc/{name}": value for name, value in self.validate().items()}

    def train_step(self) -> dict[str, float]:
        """One optimiser step; it depends on the seed and the step only, dropout included."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        rows = self._rows_of_step()
        pixels = self._small(self.cache.batch(rows, 1))
        pixels = augmented(pixels, config.augmentation, generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._learning_rate_share()
        loss, scalars = self._losses(pixels, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.judge, self.step)
        return scalars

    def validate(self) -> dict[str, float]:
        """AUROC of the running mean on the val split's frontal images, by finding and macro."""
        targets, scores = self.targets[self.val_rows], self._val_scores()
        columns = self._choosing_columns()
        result = {self.config.findings[c]: auroc(targets[:, c], scores[:, c]) for c in columns}
        result[MACRO] = macro_auroc(targets, scores, columns)
        # A val split too small to choose by: the latest is taken.
        if not columns or result[MACRO] > self.best["macro"]:
            self.best = {
                "step": self.step,
                "macro": result[MACRO],
                "weights": self._average_weights(),
            }
        return result

    def export(self) -> Path:
        """Write the best step's weights as safetensors and what they are as JSON."""
        self.average.network.load_state_dict(self.best["weights"])
        targets, scores = self.targets[self.val_rows], self._val_scores()
        thresholds = [
            best_f1_threshold(targets[:, c], scores[:, c]) for c in range(targets.shape[1])
        ]
        described = self.average.network.config.to_dict() | {"thresholds": thresholds}
        path = self.config.output / JUDGE_WEIGHTS
        save_file(self.best["weights"], path)
        write_json(
            self.config.output / JUDGE_JSON,
            {
                "judge": described,
                "preprocessing": self.config.model_dump(
                    mode="json", include={"pipeline", "geometry", "image_size"}
                ),
                "step": self.best["step"],
                "steps": self.step,
                "val_auroc": {
                    self.config.findings[c]: auroc(targets[:, c], scores[:, c])
                    for c in self._choosing_columns()
                },
                "val_auroc_macro": self.best["macro"]
                if math.isfinite(self.best["macro"])
                else None,
                "images_seen": self.step * self.config.batch_size,
                "wall_seconds": round(self.seconds),
                "seed": self.config.seed,
                "measures": self.config.measures,
                "git": git_state(),
            },
        )
        return path

    def _losses(self, pixels: Tensor, rows: list[int]) -> tuple[Tensor, dict[str, float]]:
        """What is minimised, and its parts."""
        targets = torch.from_numpy(self.targets[rows]).to(self.device)
        with autocast(self.device, self.dtype):
            features = self.judge.dropout(self.judge.features(pixels))
            logits = self.judge.head(features).float()
        loss = balanced_loss(logits, targets, self.positive_weights.to(self.device))
        scalars = {"loss": loss.item()}
        if self.auxiliary is not None:
            auxiliary = self.auxiliary.loss(features, rows)
            scalars["auxiliary_loss"] = auxiliary.item()
            loss = loss + self.config.auxiliary_weight * auxiliary
        return loss, scalars

    def _auxiliary(self) -> AuxiliaryQuestions:
        return AuxiliaryQuestions(
            self.cache.studies,
            self.train_rows,
            self.judge.feature_size,
            least_positives=self.config.least_auxiliary_positives,
            largest_positive_weight=self.config.largest_positive_weight,
        )

    def _parameters(self) -> list[nn.Parameter]:
        auxiliary = [] if self.auxiliary is None else self.auxiliary.parameters()
        return [*self.judge.parameters(), *auxiliary]

    def _rows_of_step(self) -> list[int]:
        """Every epoch in its own order; the last, smaller batch of an epoch is left out."""
        size = min(self.config.batch_size, len(self.train_rows))
        epoch, position = divmod(self.step, len(self.train_rows) // size)
        generator = torch.Generator().manual_seed(self.config.seed * 7_919 + epoch)
        order = torch.randperm(len(self.train_rows), generator=generator)
        chosen = order[position * size : (position + 1) * size]
        return [self.train_rows[i] for i in chosen.tolist()]

    def _small(self, pixels: Tensor) -> Tensor:
        """Scaled before augmentation: the judge would do it after, at a higher price."""
        size = self.config.architecture.input_size
        return F.interpolate(
            pixels, (size, size), mode="bilinear", antialias=True, align_corners=False
        )

    def _val_scores(self) -> NDArray[np.float32]:
        parts = [
            self.average.network.scores(self.cache.batch(self.val_rows[i : i + 32], 1)).numpy()
            for i in range(0, len(self.val_rows), 32)
        ]
        return np.concatenate(parts)

    def _choosing_columns(self) -> list[int]:
        targets, config = self.targets[self.val_rows], self.config
        return measured_findings(targets, config.findings, config.least_val_positives)

    def _average_weights(self) -> dict[str, Tensor]:
        return {
            k: v.detach().cpu().clone().contiguous()
            for k, v in self.average.network.state_dict().items()
        }

    def _learning_rate_share(self) -> float:
        config = self.config
        return warm_cosine(self.step, config.warmup_steps, config.steps)
