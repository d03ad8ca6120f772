"""What fine-tuning is steered by, measured on validation data in passing, without generating.

Two figures that losses do not show: whether the model has learnt to look (yes / no questions on
unseen radiographs, AUROC by finding: 0.5 is chance), and what its language has cost (perplexity
of plain text over the base model's).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from llmcxr_models.observations import NO, YES
from llmcxr_models.prompt import PromptBuilder
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.instructions import common_length
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.metrics.classification import MACRO, auroc
from llmcxr_training.questions import (
    FINDING_QUESTIONS,
    FINDINGS,
    NORMAL_QUESTIONS,
    TAUGHT,
    is_indexed,
    is_normal,
    question_targets,
)

_LEAST_POSITIVES = 10
"""Findings with fewer say too little; they are left out."""

_BATCH = 4


class QuestionProbe:
    """Yes / no questions about fixed radiographs, scored by log p(yes) - log p(no).

    Args:
        studies: of validation patients; those with trusted labels and codes are used.
        images: codes of the studies; of the pictures as they are.
        builder: frames the questions; its template puts the image first.
        count: most radiographs; those with findings first, since they are the fewer.

    Attributes:
        names: of what is asked.
        targets: (N, questions); NaN where the labels do not tell.
        patients: of each radiograph.
    """

    def __init__(
        self, studies: Sequence[Study], images: EncodedImages, builder: PromptBuilder, count: int
    ) -> None:
        row = {id_: number for number, id_ in enumerate(images.ids)}
        usable = [s for s in studies if s.id in row and is_indexed(s)]
        chosen = sorted(usable, key=is_normal)[:count]
        self.names = list(TAUGHT)
        self.patients = [study.patient_id for study in chosen]
        self.targets = np.array([question_targets(s) for s in chosen]).reshape(-1, len(self.names))
        self._answers = [builder.text_answer(answer)[0] for answer in (YES, NO)]
        questions = [NORMAL_QUESTIONS[0]]
        questions += [FINDING_QUESTIONS[0].format(finding.name) for finding in FINDINGS]
        self._sequences = [
            _sequence(builder, images.codes[row[s.id], 0].tolist(), questions) for s in chosen
        ]

    @torch.no_grad()
    def scores(self, model: ImageTextModel) -> NDArray[np.float32]:
        """Of each radiograph and question log p(yes) - log p(no), (N, questions)."""
        starts = range(0, len(self._sequences), _BATCH)
        parts = [self._scores(model, self._sequences[s : s + _BATCH]) for s in starts]
        return np.asarray(torch.cat(parts).numpy(), np.float32)

    def measure(self, model: ImageTextModel) -> dict[str, float]:
        """AUROC by finding, and their mean."""
        return auroc_by_finding(self.names, self.targets, self.scores(model))

    def _scores(
        self, model: ImageTextModel, sequences: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> Tensor:
        """(B, questions)."""
        device = model.image_rows.device
        token_ids, branches = (
            torch.nn.utils.rnn.pad_sequence(
                [s[part] for s in sequences], batch_first=True, padding_value=padding
            ).to(device)
            # Padding is one more branch.
            for part, padding in ((0, 0), (1, len(self.names) + 1))
        )
        ends = torch.stack([s[2] for s in sequences]).to(device)
        hidden = model.hidden_states(token_ids, branches)
        asked = hidden.gather(1, ends.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        logits = model.text_logits(asked)[..., self._answers].float().cpu()
        return logits[..., 0] - logits[..., 1]


class LanguageProbe:
    """Perplexity of a fixed text, in windows, over what it was when the probe was made.

    Args:
        text: UTF-8.
        tokenizer: of the model.
        model: still the base model.
        tokens: how much of the text's beginning.
        window: tokens that the model sees at once.

    Raises:
        DataError: the text cannot be read, or is shorter.
    """

    def __init__(
        self,
        text: Path,
        tokenizer: TextTokenizer,
        model: ImageTextModel,
        *,
        tokens: int = 4096,
        window: int = 512,
    ) -> None:
        try:
            token_ids = tokenizer.encode_text(text.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{text} cannot be read: {type(error).__name__}") from error
        whole = min(tokens, len(token_ids)) // window
        if not whole:
            raise DataError(f"{text} has fewer than {window} tokens")
        self._windows = torch.tensor(token_ids[: whole * window]).view(whole, window)
        self._before = self._loss(model)

    def ratio(self, model: ImageTextModel) -> float:
        """Perplexity now over perplexity before, among text tokens."""
        return math.exp(self._loss(model) - self._before)

    @torch.no_grad()
    def _loss(self, model: ImageTextModel) -> float:
        total = 0.0
        for windows in self._windows.to(model.image_rows.device).split(_BATCH):
            logits = model.text_logits(model.hidden_states(windows)[:, :-1])
            total += F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten()).item()
        return total / math.ceil(len(self._windows) / _BATCH)


def auroc_by_finding(
    names: Sequence[str], targets: NDArray[np.floating], scores: NDArray[np.floating]
) -> dict[str, float]:
    """AUROC of each column (N,) with ten of either answer or more, and their mean."""
    result = {
        name: auroc(targets[:, column], scores[:, column])
        for column, name in enumerate(names)
        if min((targets[:, column] == answer).sum() for answer in (0, 1)) >= _LEAST_POSITIVES
    }
    return result | ({MACRO: float(np.mean(list(result.values())))} if result else {})


def _sequence(
    builder: PromptBuilder, codes: Sequence[int], questions: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and branches (T,), and where each question ends (questions,)."""
    prompts = [builder.question(codes, question).token_ids for question in questions]
    common = common_length(prompts)
    token_ids, branches, ends = list(prompts[0][:common]), [0] * common, []
    for number, prompt in enumerate(prompts, start=1):
        token_ids += prompt[common:]
        branches += [number] * (len(prompt) - common)
        ends.append(len(token_ids) - 1)
    return torch.tensor(token_ids), torch.tensor(branches), torch.tensor(ends)
