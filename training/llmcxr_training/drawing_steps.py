"""Steps in between that teach a model to draw what a report says.

A finding changes the probability of a radiograph by a few nats of some thirteen hundred: in the
loss of single codes it drowns. Here two reports, one with findings and one without, ask for the
same image, and the model is taught how its predictions for the two are to differ at every token:
by what speaks for those findings (`FindingTilt`), half of it up for the one and down for the
other. Targets are whole distributions, so no sampling noise of codes enters (guided distillation,
Meng et al., arXiv 2210.03142); their middle is that of the model as it was when these steps
began, so that nothing else is taught.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from llmcxr_models.finding_mentions import FINDINGS, NO_FINDING
from llmcxr_models.finding_tilt import FindingTilt
from llmcxr_models.prompt import IMAGE_INSTRUCTIONS, PromptBuilder
from llmcxr_training.batches import collate
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.fit_tilt import fit_tilt
from llmcxr_training.instructions import Example
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.precision import autocast
from llmcxr_training.targets import ABSENT, PRESENT, target_table, targets
from llmcxr_training.teacher import OwnOptimizer

_FAR = 7_000_033
"""Keeps the draws of these steps apart from those of other parts of a run with the same seed."""

_MEASURED_PAIRS = 12

_MOST_IMAGES = 8192
"""What the classifier is fitted to at most: its features take memory, and it learns no more."""


class DrawingSteps(BaseModel):
    """How a model is taught to draw what reports say, between two of its usual steps.

    Attributes:
        steps: between two usual ones.
        pairs: of reports, in each.
        pairs_at_once: computed together.
        upper_layers: those that learn, the uppermost. What a report says is there already at
            every image token; too little is made of it.
        strength: by how many nats the logits of either report are to be moved from their middle,
            see `FindingTilt.scaled`.
        shrinkage: of the classifier, see `fit_tilt`.
        findings: the labeller's that are asked for.
        learning_rate: of the layers' adapters or weights, at its peak; the schedule is the run's.
        image_learning_rate: of the image tokens' output rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=1, ge=1)
    pairs: int = Field(default=4, ge=1)
    pairs_at_once: int = Field(default=2, ge=1)
    upper_layers: int = Field(default=10, ge=1)
    strength: float = Field(default=0.3, gt=0.0)
    shrinkage: float = Field(default=30.0, gt=0.0)
    findings: tuple[str, ...] = (
        "Cardiomegaly",
        "Lung Opacity",
        "Atelectasis",
        "Pleural Effusion",
        "Support Devices",
    )
    learning_rate: float = 1e-4
    image_learning_rate: float = 1e-4


class DrawingTeacher:
    """Takes the steps in between.

    Args:
        settings: of the steps.
        model: on the device it is trained on.
        studies: of training patients; those with codes and a report are used.
        images: their codes.
        vectors: (codebook size, D), the codebook.
        builder: frames prompts.
        seed: of draws.
        dtype: of the arithmetic.
        compile: whether the layers of its copy of the model are compiled, too.

    Raises:
        DataError: an unknown finding, no report with or without one of them, or fewer layers.
    """

    name = "drawing"

    def __init__(
        self,
        settings: DrawingSteps,
        model: ImageTextModel,
        studies: Sequence[Study],
        images: EncodedImages,
        vectors: NDArray[np.float32],
        builder: PromptBuilder,
        *,
        seed: int,
        dtype: torch.dtype,
        compile: bool = False,
    ) -> None:
        if unknown := set(settings.findings) - set(FINDINGS):
            raise DataError(f"drawing_steps: no findings: {', '.join(sorted(unknown))}")
        self.settings, self.model, self.images, self.builder = settings, model, images, builder
        self._seed, self._dtype = seed, dtype
        self._row = {id_: number for number, id_ in enumerate(images.ids)}
        self._findings = (NO_FINDING, *(f for f in settings.findings if f != NO_FINDING))
        self._pairs = _Pairs(self._usable(studies), self._findings)
        self.tilt = self._fitted(self._pairs.studies, vectors)
        # Without something that holds the middle, it drifts, and what is drawn falls apart.
        self._reference = copy.deepcopy(model).eval()
        self._is_begun = False
        if compile:
            self._reference.compile_layers()
        self._lower = model.layer_count - settings.upper_layers
        self._optimizer = OwnOptimizer(
            self.name,
            [
                (model.upper_parameters(self._lower), settings.learning_rate),
                ([model.image_head], settings.image_learning_rate),
            ],
        )

    def steps(self, number: int, learning_rate_share: float, gradient_clip: float) -> float:
        """Those before step `number` of the run; the mean divergence of a sequence, in nats.

        Raises:
            FloatingPointError: a gradient is not finite; it has changed nothing.
        """
        self._begin()
        count = self.settings.steps
        self._optimizer.follow(learning_rate_share)
        self.model.train()
        losses = [self._step(number * count + part, gradient_clip) for part in range(count)]
        return sum(losses) / count

    @torch.no_grad()
    def measure(self, studies: Sequence[Study]) -> dict[str, float]:
        """How much of the difference is drawn: 0 where reports make none, 1 as it is taught.

        The slope of the differences of logits on the tilts, codes weighted by their probability,
        of fixed pairs; nothing where there are none. What both predictions share is left out.
        """
        try:
            pairs = _Pairs(self._usable(studies), self._findings)
        except DataError:
            return {}
        self._begin()
        draw, at_once = np.random.default_rng(_FAR), self.settings.pairs_at_once
        together, alone = 0.0, 0.0
        for _ in range(0, _MEASURED_PAIRS, at_once):
            compared = self._compare(pairs, draw, at_once)
            covariance, variance = compared.covariance_and_variance()
            together, alone = together + covariance.item(), alone + variance.item()
        return {"drawing_share": together / alone}

    def state(self) -> dict[str, Any]:
        """What `load` goes on from."""
        self._begin()
        reference = {n: t.clone() for n, t in self._reference.trained_state().items()}
        return {"optimizer": self._optimizer.state(), "reference": reference}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; learning rates stay those of the settings.

        Raises:
            DataError: it is of another model.
        """
        self._optimizer.load(state["optimizer"])
        self._reference.load_trained_state(state["reference"])
        self._is_begun = True

    def _begin(self) -> None:
        """Remember the model, once, as the run's beginning or the state before has left it."""
        if not self._is_begun:
            self._reference.load_trained_state(self.model.trained_state())
            self._is_begun = True

    def _step(self, number: int, gradient_clip: float) -> float:
        draw = np.random.default_rng((self._seed, _FAR, number))
        pairs, at_once = self.settings.pairs, self.settings.pairs_at_once
        losses = (
            self._compare(self._pairs, draw, min(at_once, pairs - start)).divergence() / (2 * pairs)
            for start in range(0, pairs, at_once)
        )
        return self._optimizer.step(number, losses, gradient_clip)

    def _compare(self, pairs: _Pairs, draw: np.random.Generator, count: int) -> _Compared:
        """Predictions for both reports of `count` pairs, and how they are to differ."""
        examples, tilt = self._asked(pairs, draw, count)
        device, model, reference = self.model.image_rows.device, self.model, self._reference
        token_ids, loss_weights, _ = collate(examples)
        token_ids = token_ids.to(device)
        is_image = token_ids >= model.vocabulary.image_offset
        drawn = is_image & (loss_weights.to(device) > 0)
        # A code is predicted from the token before it.
        at = drawn.roll(-1, dims=1)
        with autocast(device, self._dtype):
            with torch.no_grad():
                lower = model.lower_states(token_ids, self._lower, normalised=False)
                before = reference.image_logits(reference.hidden_states(token_ids)[at])
            after = model.image_logits(model.upper_states(lower, self._lower)[at])
        after, before = (of.float().unflatten(0, (count, 2, -1)) for of in (after, before))
        return _Compared(after, before.mean(dim=1, keepdim=True), tilt.to(device).unsqueeze(1))

    def _asked(
        self, pairs: _Pairs, draw: np.random.Generator, count: int
    ) -> tuple[list[Example], Tensor]:
        """Both reports of `count` pairs, each with the same image, and tilts (count, T, codes)."""
        examples, wanted = [], []
        for _ in range(count):
            with_findings, without, difference = pairs.draw(draw)
            of = with_findings if draw.random() < 0.5 else without
            codes = self.images.codes[self._row[of.id]]
            answer = self.builder.image_answer(codes[draw.integers(len(codes))].tolist())
            paraphrase = int(draw.integers(len(IMAGE_INSTRUCTIONS)))
            for study in (with_findings, without):
                prompt = self.builder.image(study.report.text, paraphrase=paraphrase)
                weights = [0.0] * len(prompt.token_ids) + [1.0] * len(answer)
                examples.append(Example(prompt.task, [*prompt.token_ids, *answer], weights))
            wanted.append(difference)
        tilts = self.tilt.towards(np.array(wanted), self.settings.strength)
        return examples, torch.from_numpy(tilts)

    def _fitted(self, studies: Sequence[Study], vectors: NDArray[np.float32]) -> FindingTilt:
        """Of every version of every image, with what index and raw text say of it."""
        codes = self.images.codes[[self._row[study.id] for study in studies]]
        known = np.repeat(target_table(studies, self._findings), codes.shape[1], axis=0)
        codes = codes.reshape(-1, codes.shape[-1])
        if len(codes) > _MOST_IMAGES:
            draw = np.random.default_rng((self._seed, _FAR))
            some = draw.choice(len(codes), _MOST_IMAGES, replace=False)
            codes, known = codes[some], known[some]
        return fit_tilt(self._findings, codes, vectors, known, self.settings.shrinkage)

    def _usable(self, studies: Sequence[Study]) -> list[Study]:
        return [s for s in studies if s.id in self._row and not s.report.is_empty]


class _Compared(NamedTuple):
    """What was predicted for pairs of reports, with findings and without, about one image each.

    Attributes:
        logits: (pairs, 2, image_length, codes).
        middle: (pairs, 1, image_length, codes), between the two, as it is to stay.
        tilt: (pairs, 1, image_length, codes), by what the first is to be above it.
    """

    logits: Tensor
    middle: Tensor
    tilt: Tensor

    def divergence(self) -> Tensor:
        """Sum of KL(target, model) over all codes, in nats."""
        targets = torch.cat([self.middle + self.tilt, self.middle - self.tilt], dim=1)
        predicted, wanted = (F.log_softmax(of, dim=-1) for of in (self.logits, targets))
        return F.kl_div(predicted, wanted, reduction="sum", log_target=True)

    def covariance_and_variance(self) -> tuple[Tensor, Tensor]:
        """Of half the difference of the logits with the tilt, and of the tilt: sums over codes."""
        weights = self.middle.softmax(dim=-1)
        half = (self.logits[:, :1] - self.logits[:, 1:]) / 2
        centred = self.tilt - (weights * self.tilt).sum(dim=-1, keepdim=True)
        return (weights * half * centred).sum(), (weights * centred**2).sum()


class _Pairs:
    """Draws two reports: one with a finding, each as often as any other, and one with none.

    What is asked for is what a report's own text affirms; what only the index knows, it does not
    say.

    Raises:
        DataError: there is no such report.
    """

    def __init__(self, studies: Sequence[Study], findings: Sequence[str]) -> None:
        self.studies = list(studies)
        rows = [targets(study.report.text, ()) for study in studies]
        self._said = np.array([[row[f] for f in findings] for row in rows], np.float32)
        self._said = self._said.reshape(len(rows), len(findings))
        none = findings.index(NO_FINDING)
        affirmed = [np.flatnonzero(column == PRESENT) for column in self._said.T]
        self._without = affirmed[none]
        self._with = [
            found[self._said[found, none] == ABSENT]
            for column, found in enumerate(affirmed)
            if column != none
        ]
        self._with = [found for found in self._with if found.size]
        if not self._with or not self._without.size:
            raise DataError("drawing_steps: reports with findings and reports without are needed")

    def draw(self, draw: np.random.Generator) -> tuple[Study, Study, NDArray[np.float32]]:
        """With findings, without, and (findings,) by how much the first has each more."""
        first = draw.choice(self._with[draw.integers(len(self._with))])
        second = draw.choice(self._without)
        difference = np.nan_to_num(self._said[first] - self._said[second])
        return self.studies[first], self.studies[second], difference
