"""Measures one trained cell, case by case; what is averaged, compared and drawn comes later.

The cases are the same for all cells of a grid, in the same order, so that cells can be compared
in pairs. Nothing here depends on how a cell was trained.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.judge import Judge
from llmcxr_models.prompt import Prompt, PromptBuilder
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_training.ablation.plain_generator import PlainGenerator
from llmcxr_training.ablation.settings import AblationError, Measure
from llmcxr_training.batches import collate
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.evaluation.answers import AnswerStore, Question
from llmcxr_training.evaluation.image_part import prompt_targets
from llmcxr_training.evaluation.pictures import kept
from llmcxr_training.evaluation.prompts import seed_of
from llmcxr_training.evaluation.settings import Split
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.instructions import Example
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.metrics.text import label_table
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.probes import QuestionProbe
from llmcxr_training.refinement import refine
from llmcxr_training.run_state import load_state
from llmcxr_training.stage import TOKENIZER_FOLDER, grow
from llmcxr_training.trained_vqgan import TrainedVqGan

_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
_Found = TypeVar("_Found")


def measure_cell(config: Finetuning, measure: Measure, split: Split, work: Path) -> Arrays:
    """Everything that is measured of a trained stage, `<table>.<column>` with one row a case.

    Args:
        config: of the cell's last stage.
        measure: what to measure.
        split: whose patients.
        work: what the cell has answered, and what VQ-GAN and judge said, is kept here.

    Raises:
        DataError: the stage has no state, or there are too few radiographs.
        InvalidCheckpoint: the judge cannot be loaded.
    """
    cell = _TrainedCell(config, measure, split, work)
    with cell.arithmetic():
        arrays = cell.language() | cell.losses() | cell.questions()
        if measure.reports:
            arrays |= cell.reports()
        if measure.images:
            arrays |= cell.images()
    return arrays


@dataclass(frozen=True)
class _Measured:
    """Radiographs with their codes.

    Attributes:
        cache: the pictures, with their studies.
        codes: (N, image_length).
    """

    cache: PixelCache
    codes: NDArray[np.uint16]

    @property
    def studies(self) -> list[Study]:
        return self.cache.studies


class _TrainedCell:
    """A trained model with what it is measured on."""

    def __init__(self, config: Finetuning, measure: Measure, split: Split, work: Path) -> None:
        state = load_state(config.output)
        if state is None:
            raise DataError(f"{config.output} holds no trained stage")
        self.measure, self.work, self.device = measure, work, resolve_device(config.device)
        self.trained = TrainedVqGan.load(config.vqgan)
        grown = grow(
            config.base, self.trained.vqgan, config.template, config.output.parent / "base"
        )
        self.dtype = resolve_precision(config.precision, self.device)
        self.model = ImageTextModel(grown.model, grown.vocabulary, config.lora, self.dtype)
        self.model.to(self.device).eval()
        self.text = TextTokenizer(config.output / TOKENIZER_FOLDER / "tokenizer.json")
        self.builder = PromptBuilder(config.template, grown.vocabulary, self.text)
        self._windows = self._read_windows(measure, split)
        # Still the base model, as the cell began with it. Autocast ends before the weights change:
        # until then it keeps the copies that it has made of them.
        with self.arithmetic():
            self._before = self._window_nll()
        self.model.load_trained_state(state["model"])
        self.tokenizer = ImageTokenizer(self.trained.vqgan, self.device)
        self.measured = self._open(config, split)

    def arithmetic(self) -> AbstractContextManager[None]:
        """What the cell was trained in."""
        return autocast(self.device, self.dtype)

    def _read_windows(self, measure: Measure, split: Split) -> Tensor:
        path = measure.texts.test if split == "test" else measure.texts.val
        try:
            token_ids = self.text.encode_text(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {type(error).__name__}") from error
        whole = min(measure.text_tokens, len(token_ids)) // measure.text_window
        if not whole:
            raise DataError(f"{path} has fewer than {measure.text_window} tokens")
        return torch.tensor(token_ids[: whole * measure.text_window]).view(whole, -1)

    @torch.no_grad()
    def _window_nll(self) -> NDArray[np.float64]:
        """Sum of nats in each window (W,), of every token but its first."""
        sums = []
        for windows in self._windows.to(self.device).split(self.measure.batch_size):
            logits = self.model.text_logits(self.model.hidden_states(windows)[:, :-1])
            each = F.cross_entropy(
                logits.float().flatten(0, 1), windows[:, 1:].flatten(), reduction="none"
            )
            sums.append(each.view(len(windows), -1).sum(1).double().cpu())
        return np.asarray(torch.cat(sums).numpy(), np.float64)

    def _open(self, config: Finetuning, split: Split) -> _Measured:
        studies = refine(config.data.studies((split,)), self.measure.refinement)
        studies = [study for study in studies if not study.report.is_empty]
        if self.measure.limit is not None and len(studies) > self.measure.limit:
            rng = random.Random(self.measure.seed)  # noqa: S311  no secret
            chosen = set(rng.sample(range(len(studies)), self.measure.limit))
            studies = [study for row, study in enumerate(studies) if row in chosen]
        if len(studies) < 2:
            raise DataError("fewer than two radiographs have a report to compare with")
        preprocessing, folder = self.trained.preprocessing, config.vqgan.parent / "pixels"
        cache = PixelCache.open(studies, preprocessing, folder)

        def encode() -> Arrays:
            parts = self._by_batch("encoding", len(cache), lambda rows: self._codes(cache, rows))
            return {"codes": np.concatenate(parts).astype(np.uint16)}

        said = "\0".join([self.trained.code_digest, *(s.id for s in cache.studies)])
        return _Measured(cache, kept(self._path("codes", said), encode)["codes"])

    def _codes(self, cache: PixelCache, rows: range) -> NDArray[Any]:
        pixels = cache.batch(rows, self.trained.vqgan.config.image_channels)
        with self._exactly():
            return np.asarray(self.tokenizer.encode(pixels).numpy())

    def _path(self, name: str, said: str) -> Path:
        return self.work / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.npz"

    def _by_batch(self, what: str, count: int, compute: Callable[[range], _Found]) -> list[_Found]:
        size = self.measure.batch_size
        starts = tqdm(range(0, count, size), desc=what, unit="batch")
        return [compute(range(start, min(start + size, count))) for start in starts]

    def language(self) -> Arrays:
        """Of each window: nats now and before, and tokens."""
        tokens = np.full(len(self._windows), self._windows.shape[1] - 1)
        nll = {"nll": self._window_nll(), "before": self._before, "tokens": tokens}
        return {f"language.{name}": values for name, values in nll.items()}

    def losses(self) -> Arrays:
        """Of each radiograph: nats of its report, and of its image after the report."""
        found = self._by_batch("losses", len(self.measured.studies), self._losses)
        image, text, words = (np.concatenate([part[i] for part in found]) for i in range(3))
        length = np.full(len(image), self.builder.vocabulary.image_length)
        return {
            "loss.patients": _patients(self.measured.studies),
            "loss.image_nll": image,
            "loss.image_tokens": length,
            "loss.text_nll": text,
            "loss.text_tokens": words,
        }

    @torch.no_grad()
    def _losses(self, rows: range) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        image, text, words = [], [], []
        for row in rows:
            study, codes = self.measured.studies[row], self.measured.codes[row].tolist()
            drawn = _example(
                self.builder.image(study.report.text), self.builder.image_answer(codes)
            )
            answer = self.builder.text_answer(study.report.text)
            told = _example(self.builder.report(codes), answer)
            image.append(self._loss(drawn)[0])
            text.append(self._loss(told)[1])
            words.append(len(answer))
        return np.array(image), np.array(text), np.array(words)

    def _loss(self, example: Example) -> tuple[float, float]:
        token_ids, weights, _ = collate([example])
        losses = self.model(token_ids.to(self.device), weights.to(self.device))
        return losses.image_sum.item(), losses.text_sum.item()

    def questions(self) -> Arrays:
        """Of each radiograph with trusted labels: yes / no scores, and what is true.

        Raises:
            AblationError: the template puts the image last; no probe asks there.
        """
        if not self.builder.template.image_first:
            raise AblationError("yes / no questions need a template with the image first")
        ids = tuple(study.id for study in self.measured.studies)
        images = EncodedImages(ids, self.measured.codes[:, None])
        probe = QuestionProbe(self.measured.studies, images, self.builder, len(ids))
        if not probe.patients:
            return {}
        return {
            "questions.patients": np.array(probe.patients),
            "questions.targets": probe.targets,
            "questions.scores": probe.scores(self.model),
        }

    def reports(self) -> Arrays:
        """Of each radiograph that is asked about: what the written and the real report affirm."""
        studies = self.measured.studies[: self.measure.reports]
        prompts = [
            self.builder.report(codes.tolist(), max_tokens=self.measure.report_tokens)
            for codes in self.measured.codes[: len(studies)]
        ]
        asked = [Question(prompt, 0.0, 1.0, self.measure.seed) for prompt in prompts]
        answers = self._ask(asked, "reports")
        stops = self.builder.vocabulary.stop_token_ids
        written = [self.text.decode([i for i in answer if i not in stops]) for answer in answers]
        return {
            "reports.patients": _patients(studies),
            "reports.called": label_table(written),
            "reports.truth": label_table([study.report.text for study in studies]),
        }

    def images(self) -> Arrays:
        """Of each report that is drawn: the judge's features and scores, and the real ones."""
        measure = self.measure
        assert measure.judge is not None
        judge = Judge.load(measure.judge).to(self.device)
        studies = self.measured.studies[: measure.images]
        sampling = measure.sampling
        asked = [
            Question(
                self.builder.image(study.report.text),
                sampling.temperature,
                sampling.top_p,
                seed_of(study, measure.seed),
            )
            for study in studies
        ]
        vocabulary = self.builder.vocabulary
        codes = np.array([vocabulary.to_codes(ids) for ids in self._ask(asked, "images")])
        drawn = [
            self._look(judge, self._pixels(some))
            for some in np.array_split(codes, -(-len(codes) // measure.batch_size))
        ]
        channels = self.trained.vqgan.config.image_channels
        real = self._by_batch(
            "real images",
            len(studies),
            lambda rows: self._look(judge, self.measured.cache.batch(rows, channels)),
        )
        return {
            "images.patients": _patients(studies),
            "images.targets": prompt_targets(studies, judge.config.findings),
            "images.scores": np.concatenate([scores for _, scores in drawn]),
            "images.features": np.concatenate([features for features, _ in drawn]),
            "images.real_features": np.concatenate([features for features, _ in real]),
        }

    def _pixels(self, codes: NDArray[Any]) -> Tensor:
        with self._exactly():
            return self.tokenizer.decode(torch.from_numpy(codes))

    @torch.no_grad()
    def _look(self, judge: Judge, pixels: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        with self._exactly():
            features = judge.features(pixels.float().to(self.device))
            scores = torch.sigmoid(judge.head(features).float())
        return features.cpu().numpy(), scores.cpu().numpy()

    def _exactly(self) -> AbstractContextManager[None]:
        """Float32: VQ-GAN and judge measure alike, whatever the language model computes in."""
        return torch.autocast(self.device.type, enabled=False)

    def _ask(self, questions: Sequence[Question], what: str) -> list[tuple[int, ...]]:
        store = AnswerStore(self.work / "answers.jsonl")
        generator = PlainGenerator(self.model, self.measure.batch_size)
        return store.answer(questions, lambda: generator, what=what)


def _example(prompt: Prompt, answer: Sequence[int]) -> Example:
    token_ids = [*prompt.token_ids, *answer]
    weights = [0.0] * len(prompt.token_ids) + [1.0] * len(answer)
    return Example(prompt.task, token_ids, weights)


def _patients(studies: Sequence[Study]) -> NDArray[Any]:
    return np.array([study.patient_id for study in studies])
