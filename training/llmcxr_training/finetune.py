"""`llmcxr-train finetune`: instruction fine-tuning of the grown language model; one stage a run.

Loss on the response only (arXiv 2305.11490, section 3.2), adapters or full weights, resumable to
the step. A second stage is a second configuration that names the first run in `initial`. Several
processes share each batch and compute the gradient that one would compute alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from llmcxr_training.batches import anchored, collate, total_weights
from llmcxr_training.data import DataError
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.instructions import Example, Examples
from llmcxr_training.language_model import ImageTextModel, Losses
from llmcxr_training.learning_rate import warm_cosine
from llmcxr_training.merge import DELTA, Delta
from llmcxr_training.precision import autocast, resolve_precision
from llmcxr_training.processes import Processes
from llmcxr_training.run_state import load_moments, load_state, save_state
from llmcxr_training.teacher import Teacher
from llmcxr_training.training_loop import Loop, describe_run

_log = logging.getLogger(__name__)


Probe = Callable[[ImageTextModel], Mapping[str, float]]
"""Measures a model; the names of its figures."""


class FinetuningRun:
    """One stage: the model, its optimiser, and the step they are at.

    Args:
        config: of the stage.
        model: moved to the device that the configuration names.
        training: draws training examples.
        validation: draws examples of other patients.
        processes: this process among those of the run; None for a run of one.
        probes: what is measured at validation beside the losses; of weights that are not shared
            out.
        teachers: take steps in between, of the same weights.

    Raises:
        DataError: the processes cannot share a batch alike, or there are teachers and several.
    """

    def __init__(
        self,
        config: Finetuning,
        model: ImageTextModel,
        training: Examples,
        validation: Examples,
        processes: Processes | None = None,
        probes: Sequence[Probe] = (),
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.config = config
        self.probes = probes
        self.teachers = tuple(teachers)
        self.processes = processes or Processes(config.device)
        self.processes.check_batch(config.batch_size)
        if self.teachers and self.processes.count > 1:
            raise DataError("steps in between are of one process; run such a stage on one device")
        self.device = self.processes.device
        self.dtype = resolve_precision(config.precision, self.device)
        self.model = model.to(self.device)
        if config.gradient_checkpointing:
            self.model.checkpoint_activations()
        if config.compile:
            self.model.compile_layers()
        # What is called: the model itself, or what shares its work out.
        self.wrapped: nn.Module = self.model
        self.trained_names = tuple(model.trained_state())
        self.training = training
        self.validation = validation
        self.optimizer: torch.optim.Optimizer = _optimizer(config, model)
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Continue from the run folder's state, or start from `config.initial`.

        Raises:
            DataError: the state is of another model, or of another way of sharing it out.
            FileNotFoundError: `initial` has no state, and is no release with adapters.
            DeltaError: the release's adapters are damaged, or of another kind.
        """
        state = load_state(self.config.output)
        # Weights before they are wrapped, moments after: wrapping moves both.
        if state is not None:
            self.model.load_trained_state(state["model"])
        elif self.config.initial is not None:
            self.model.load_trained_state(_initial_weights(self.config.initial, self.model))
        self._prepare()
        if state is None:
            return
        if ("shards" in state) != self.processes.is_sharded:
            raise DataError("the run began with weights shared out otherwise; use that launcher")
        if self.processes.is_sharded:
            self.processes.load_shards(self.config.output, state["shards"])
        else:
            keep = ("peak", "betas", "weight_decay")
            load_moments(self.optimizer, state["optimizer"], keep)
        # A run may begin with them at any step.
        for teacher in self.teachers:
            if teacher.name in state.get("teachers", {}):
                teacher.load(state["teachers"][teacher.name])
        self.step, self.seconds = state["step"], state["seconds"]
        _log.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Write the state to resume from; to be called by all processes.

        Where weights are shared out, the state file has the whole weights, and names the
        directory in which the processes left their parts of weights and moments.
        """
        processes, folder = self.processes, self.config.output
        state: dict[str, Any] = {"model": processes.gather(self.wrapped, self.trained_names)}
        if processes.is_sharded:
            state["shards"] = processes.save_shards(folder, self.step)
        else:
            state["optimizer"] = self.optimizer.state_dict()
        if self.teachers:
            state["teachers"] = {teacher.name: teacher.state() for teacher in self.teachers}
        state |= {"step": self.step, "seconds": self.seconds}
        if processes.is_main:
            save_state(folder, state)
        if processes.is_sharded:
            processes.drop_shards(folder, but=state["shards"])

    def train(self) -> None:
        """Step until `config.steps`.

        Raises:
            Stopped: by SIGTERM; the state is saved.
        """
        config, processes = self.config, self.processes
        if processes.is_main:
            describe_run(config.output, config.model_dump(mode="json"))
        Loop(
            name="finetune",
            folder=config.output,
            steps=config.steps,
            save_every_seconds=config.save_every_seconds,
            is_main=processes.is_main,
            agree=processes.agree,
        ).run(self)

    def after_step(self, _writer: SummaryWriter | None) -> dict[str, float]:
        """Validate where it is time."""
        return {} if self.step % self.config.validate_every_steps else self.validate()

    def train_step(self) -> dict[str, float]:
        """One optimiser step; its examples depend on the seed and the step only.

        Raises:
            FloatingPointError: a gradient is not finite; it has changed nothing.
        """
        config = self.config
        self.wrapped.train()
        share = self._learning_rate_share()
        taught = {
            f"{teacher.name}_loss": teacher.steps(self.step, share, config.gradient_clip)
            for teacher in self.teachers
        }
        return taught | (self._whole_step(share) if config.whole_steps else {})

    def _whole_step(self, share: float) -> dict[str, float]:
        """The usual step, of the whole model, from the losses of a batch of examples."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        first = self.step * config.batch_size
        micro_batches = self._micro_batches(self.training, range(first, first + config.batch_size))
        # The whole batch's, over all micro batches and processes: each counts by its weights.
        totals = self.processes.sums(
            total_weights(chain(*micro_batches), self.model.vocabulary.image_offset)
        )
        anchor_weight = config.anchor_weight if self.step >= config.anchor_from_step else 0.0
        sums = [0.0, 0.0, 0.0]
        for number, examples in enumerate(micro_batches, start=1):
            with self.processes.micro_batch(self.wrapped, last=number == len(micro_batches)):
                losses = self._losses(examples, anchor=anchor_weight > 0.0)
                image = losses.image_sum / max(totals[0], 1.0)
                text = losses.text_sum / max(totals[1], 1.0)
                anchor = losses.anchor_sum / max(totals[2], 1.0)
                self.processes.backward(image + text + anchor_weight * anchor)
            for part, loss in enumerate((image, text, anchor)):
                sums[part] += loss.item()
        norm = self.processes.clip(self.wrapped, config.gradient_clip)
        # One such step would spoil every weight, and the next save the state.
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of step {self.step} is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        sums = self.processes.sums(sums)
        result = {"image_loss": sums[0], "text_loss": sums[1]}
        return result | ({"anchor_loss": sums[2]} if anchor_weight and totals[2] else {})

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean losses on a fixed set of examples from validation patients, and what probes find.

        The set is what this run's own mixing, refinement and seed draw: losses are comparable
        along a run, and between runs that have these in common.
        """
        self.wrapped.eval()
        count = self.processes.count
        # Rounded up: the processes have to call the model the same number of times.
        numbers = range(-(-self.config.validation_examples // count) * count)
        totals = torch.zeros(len(Losses._fields))
        for examples in self._micro_batches(self.validation, numbers):
            totals += torch.stack(self._losses(examples)).float().cpu()
        image, image_weight, text, text_weight, *_ = self.processes.sums(totals.tolist())
        result = {
            "val_image_loss": image / max(image_weight, 1.0),
            "val_text_loss": text / max(text_weight, 1.0),
        }
        if self.processes.is_main and not self.processes.is_sharded:
            with autocast(self.device, self.dtype):
                for probe in self.probes:
                    result |= probe(self.model)
        return result

    def _prepare(self) -> None:
        config, count = self.config, self.processes.count
        self.wrapped, self.optimizer = self.processes.prepare(
            self.model,
            self.optimizer,
            micro_batch_size=config.micro_batch_size,
            micro_batches=-(-config.batch_size // (config.micro_batch_size * count)),
            gradient_clip=config.gradient_clip,
        )

    def _micro_batches(self, sampler: Examples, numbers: range) -> list[list[Example]]:
        """This process's share of the examples `numbers`."""
        examples = [sampler.draw(self.config.seed, n) for n in self.processes.share(numbers)]
        # Sequences of like length together: less padding is computed.
        examples.sort(key=lambda example: len(example.token_ids))
        size = self.config.micro_batch_size
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def _losses(self, examples: Sequence[Example], *, anchor: bool = False) -> Losses:
        tensors = (*collate(examples), anchored(examples) if anchor else None)
        batch = (t if t is None else t.to(self.device) for t in tensors)
        dtype = torch.float32 if self.processes.is_deepspeed else self.dtype
        with autocast(self.device, dtype):
            losses: Losses = self.wrapped(*batch)
        return losses

    def _learning_rate_share(self) -> float:
        config = self.config
        return warm_cosine(
            self.step, config.warmup_steps, config.steps, config.final_learning_rate_share
        )


def _initial_weights(folder: Path, model: ImageTextModel) -> dict[str, Tensor]:
    """What `model` is to start from, by the names of its trained weights."""
    state = load_state(folder)
    if state is not None:
        weights: dict[str, Tensor] = state["model"]
        return weights
    if (folder / DELTA).is_file():
        return Delta.load(folder / DELTA).trained_state(model)
    raise FileNotFoundError(f"neither a run's state nor a release's {DELTA} in {folder}")


def _optimizer(config: Finetuning, model: ImageTextModel) -> torch.optim.AdamW:
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    rows = [p for n, p in named if n.startswith("image_")]
    others = [p for n, p in named if not n.startswith("image_")]
    return torch.optim.AdamW(
        [
            {"params": others, "peak": config.learning_rate},
            {"params": rows, "peak": config.image_learning_rate},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        # In float32 on a CPU: one pass over each weight in place of six.
        fused=(config.lora is not None and rows[0].device.type == "cpu") or None,
    )
