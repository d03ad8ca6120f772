"""Steps in between that teach the lower layers to see findings, at a tenth of the price an image.

A classifier of radiographs sees tens of thousands of pictures before it is any good, and a
language model that reads reports affords some thousands. Here a readout that attends to the image
tokens (one query a finding, as in Mullenbach et al., arXiv 1802.05695) tells the findings from
what the first few layers make of an image: no text, no logits, no upper layers (deep supervision,
Lee et al., arXiv 1409.5185). What it teaches lies in the adapters and image rows. The readout
itself is dropped with the run: the layers above find the same by attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from llmcxr_models.prompt import PromptBuilder
from llmcxr_training.auxiliary_targets import auxiliary_questions, auxiliary_table
from llmcxr_training.balanced_loss import balanced_loss, positive_weights
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.precision import autocast
from llmcxr_training.probes import auroc_by_finding
from llmcxr_training.questions import NORMAL_QUESTIONS, TAUGHT, is_indexed, question_targets
from llmcxr_training.teacher import OwnOptimizer

_LARGEST_POSITIVE_WEIGHT = 10.0
_FAR = 7_000_003
"""Keeps the draws of these steps apart from those of other parts of a run with the same seed."""


class FindingSteps(BaseModel):
    """How the lower layers are taught between two steps of the whole model.

    Attributes:
        layers: the lowest, which learn.
        steps: between two steps of the whole model.
        batch_size: radiographs in each.
        learning_rate: of the layers' adapters or weights, at its peak; the schedule is the run's.
        image_learning_rate: of the image rows.
        readout_learning_rate: of the readout.
        least_positives: headings of the index terms are asked about, too, if so many radiographs
            of the training patients have them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(default=10, ge=1)
    steps: int = Field(default=2, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = 3e-4
    image_learning_rate: float = 3e-4
    readout_learning_rate: float = 2e-3
    least_positives: int = Field(default=20, ge=1)


class FindingReadout(nn.Module):
    """Logits of findings from the states of an image's tokens; each finding attends by itself.

    Args:
        width: of a state.
        length: tokens of an image.
        findings: how many are asked for.
    """

    def __init__(self, width: int, length: int, findings: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(findings, width) * 0.02)
        self.places = nn.Parameter(torch.zeros(findings, length))
        self.answers = nn.Parameter(torch.zeros(findings, width))
        self.bias = nn.Parameter(torch.zeros(findings))

    def forward(self, states: Tensor) -> Tensor:
        """(B, length, width) -> (B, findings)."""
        states = self.norm(states.float())
        scores = (states @ self.queries.t()) * (4.0 / math.sqrt(states.shape[-1]))
        attended = (scores.transpose(1, 2) + self.places).softmax(dim=-1) @ states
        return (attended * self.answers).sum(-1) * 4.0 + self.bias


class FindingTeacher:
    """Takes the steps in between.

    Args:
        settings: of the steps.
        model: on the device it is trained on.
        studies: of training patients; those with trusted labels and codes are used.
        images: their codes.
        builder: its template puts the image first.
        seed: of draws.
        dtype: of the arithmetic.

    Raises:
        DataError: no such study, fewer layers in the model, or another template.
    """

    name = "finding"

    def __init__(
        self,
        settings: FindingSteps,
        model: ImageTextModel,
        studies: Sequence[Study],
        images: EncodedImages,
        builder: PromptBuilder,
        *,
        seed: int,
        dtype: torch.dtype,
    ) -> None:
        if not builder.template.image_first:
            raise DataError("finding_steps needs a template with the image first")
        self.settings, self.model, self.images = settings, model, images
        self._seed, self._dtype = seed, dtype
        self._row = {id_: number for number, id_ in enumerate(images.ids)}
        usable = self._usable(studies)
        if len(usable) < settings.batch_size:
            raise DataError("finding_steps: fewer radiographs with labels than one batch has")
        questions = auxiliary_questions(usable, settings.least_positives)
        taught = np.array([question_targets(study) for study in usable], np.float32)
        self._targets = np.concatenate([taught, auxiliary_table(usable, questions)], axis=1)
        self._rows = np.array([self._row[study.id] for study in usable])
        self._weights = positive_weights(self._targets, _LARGEST_POSITIVE_WEIGHT)
        self._prefix = _before_image(builder, images)
        device, (_, width) = model.image_rows.device, model.image_rows.shape
        self.readout = FindingReadout(width, images.codes.shape[-1], self._targets.shape[1])
        self.readout.to(device)
        self._optimizer = OwnOptimizer(
            self.name,
            [
                (model.lower_parameters(settings.layers), settings.learning_rate),
                ([model.image_rows], settings.image_learning_rate),
                (self.readout.parameters(), settings.readout_learning_rate),
            ],
        )

    def steps(self, number: int, learning_rate_share: float, gradient_clip: float) -> float:
        """Those before step `number` of the run; their mean loss.

        Raises:
            FloatingPointError: a gradient is not finite; it has changed nothing.
        """
        count = self.settings.steps
        self._optimizer.follow(learning_rate_share)
        self.model.train()
        losses = [self._step(number * count + part, gradient_clip) for part in range(count)]
        return sum(losses) / count

    @torch.no_grad()
    def measure(self, studies: Sequence[Study]) -> dict[str, float]:
        """AUROC of the readout by finding, of pictures as they are, and the mean."""
        usable = self._usable(studies)
        targets = np.array([question_targets(s) for s in usable]).reshape(-1, len(TAUGHT))
        rows = np.array([self._row[study.id] for study in usable])
        size = self.settings.batch_size
        parts = [
            self._logits(self.images.codes[rows[start : start + size], 0])[:, : len(TAUGHT)]
            for start in range(0, len(rows), size)
        ]
        scores = torch.cat(parts).cpu().numpy() if parts else np.empty_like(targets)
        found = auroc_by_finding(TAUGHT, targets, scores)
        return {f"finding_readout/{name}": value for name, value in found.items()}

    def state(self) -> dict[str, Any]:
        """What `load` goes on from."""
        return {"readout": self.readout.state_dict(), "optimizer": self._optimizer.state()}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; learning rates stay those of the settings.

        Raises:
            DataError: it is of other layers or other findings.
        """
        try:
            self.readout.load_state_dict(state["readout"])
        except RuntimeError as error:
            raise DataError("the saved state is of other finding_steps") from error
        self._optimizer.load(state["optimizer"])

    def _step(self, number: int, gradient_clip: float) -> float:
        size = self.settings.batch_size
        draw = np.random.default_rng((self._seed, _FAR, number))
        chosen = draw.choice(len(self._rows), size, replace=False)
        versions = draw.integers(0, self.images.codes.shape[1], size)
        logits = self._logits(self.images.codes[self._rows[chosen], versions])
        targets = torch.from_numpy(self._targets[chosen]).to(logits.device)
        loss = balanced_loss(logits, targets, self._weights.to(logits.device))
        return self._optimizer.step(number, [loss], gradient_clip)

    def _logits(self, codes: NDArray[np.uint16]) -> Tensor:
        """(B, image_length) codes -> (B, findings)."""
        device = self.model.image_rows.device
        tokens = torch.from_numpy(codes.astype(np.int64)) + self.model.vocabulary.image_offset
        token_ids = torch.cat([self._prefix.expand(len(tokens), -1), tokens], dim=1).to(device)
        with autocast(device, self._dtype):
            states = self.model.lower_states(token_ids, self.settings.layers)
        logits: Tensor = self.readout(states[:, len(self._prefix) :])
        return logits

    def _usable(self, studies: Sequence[Study]) -> list[Study]:
        return [study for study in studies if study.id in self._row and is_indexed(study)]


def _before_image(builder: PromptBuilder, images: EncodedImages) -> Tensor:
    """The tokens that every prompt with an image begins with."""
    token_ids = builder.question(images.codes[0, 0].tolist(), NORMAL_QUESTIONS[0]).token_ids
    offset = builder.vocabulary.image_offset
    first = next(place for place, token_id in enumerate(token_ids) if token_id >= offset)
    return torch.tensor(token_ids[:first], dtype=torch.long)
