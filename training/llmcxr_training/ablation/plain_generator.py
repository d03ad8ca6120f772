"""Answers without vLLM: straight from a model in training, some prompts at once.

Slow beside vLLM, but nothing has to be merged, written or started first; for some dozen answers
of a small model that is the shorter way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from llmcxr_models.prompt import Constraint
from llmcxr_training.evaluation.answers import LogProbabilities, Question, TokenIds
from llmcxr_training.language_model import ImageTextModel


class PlainGenerator:
    """A `Generator` on the model itself.

    An answer depends on its own question and seed, and not on what is asked beside it, as far as
    the arithmetic allows.

    Args:
        model: in evaluation mode.
        batch_size: prompts of one length at once.
    """

    def __init__(self, model: ImageTextModel, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size

    @torch.no_grad()
    def generate(self, questions: Sequence[Question]) -> Iterator[tuple[int, TokenIds]]:
        """Number and answer of each question; those with prompts of one length together."""
        for numbers in self._batches(questions):
            answers = self._answers([questions[number] for number in numbers])
            yield from zip(numbers, answers, strict=True)

    @torch.no_grad()
    def log_probabilities(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[int, LogProbabilities]]:
        """Of each allowed text token as the next one."""
        for numbers in self._batches(questions):
            token_ids = torch.tensor([questions[number].prompt.token_ids for number in numbers])
            hidden = self._model.hidden_states(token_ids.to(self._model.image_rows.device))
            shares = self._model.text_logits(hidden[:, -1]).float().log_softmax(-1).cpu()
            allowed = list(questions[numbers[0]].prompt.constraint.allowed_token_ids or ())
            for number, row in zip(numbers, shares[:, allowed].tolist(), strict=True):
                yield number, tuple(row)

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Of one prompt length and one kind of answer: there is no padding to be masked."""
        alike: dict[tuple[int, Constraint], list[int]] = {}
        for number, question in enumerate(questions):
            key = (len(question.prompt.token_ids), question.prompt.constraint)
            alike.setdefault(key, []).append(number)
        for numbers in alike.values():
            for start in range(0, len(numbers), self._batch_size):
                yield numbers[start : start + self._batch_size]

    def _answers(self, questions: Sequence[Question]) -> list[TokenIds]:
        model, constraint = self._model, questions[0].prompt.constraint
        draw = [functools.partial(_drawn, q, _generator(q)) for q in questions]
        token_ids = torch.tensor([q.prompt.token_ids for q in questions])
        answers: list[list[int]] = [[] for _ in questions]
        cache = DynamicCache()
        while True:
            embedded = model.embed(token_ids.to(model.image_rows.device))
            hidden = model.backbone(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
            logits = self._logits(hidden.last_hidden_state[:, -1], constraint, len(answers[0]))
            chosen = [draw_one(row) for draw_one, row in zip(draw, logits, strict=True)]
            offset = model.vocabulary.image_offset if _is_image(constraint) else 0
            for answer, index in zip(answers, chosen, strict=True):
                answer.append(offset + index)
            ended = all(set(constraint.stop_token_ids) & set(answer) for answer in answers)
            if ended or len(answers[0]) >= constraint.max_tokens:
                return [_cut(answer, constraint.stop_token_ids) for answer in answers]
            token_ids = torch.tensor([answer[-1:] for answer in answers])

    def _logits(self, hidden: Tensor, constraint: Constraint, length: int) -> Tensor:
        """(B, rows) on the CPU, over image tokens or over text tokens."""
        if _is_image(constraint):
            return self._model.image_logits(hidden).float().cpu()
        logits = self._model.text_logits(hidden).float().cpu()
        if length < constraint.min_tokens:
            logits[:, list(constraint.stop_token_ids)] = -torch.inf
        return logits


def _is_image(constraint: Constraint) -> bool:
    return constraint.allowed_token_ids is not None


def _generator(question: Question) -> torch.Generator:
    return torch.Generator().manual_seed(question.seed)


def _drawn(question: Question, generator: torch.Generator, logits: Tensor) -> int:
    """Index into logits (rows,), by temperature and nucleus (Holtzman et al., arXiv 1904.09751)."""
    if question.temperature == 0:
        return int(logits.argmax())
    shares, order = (logits / question.temperature).softmax(-1).sort(descending=True)
    # The token that crosses the limit belongs to the nucleus.
    outside = shares.cumsum(-1) - shares >= question.top_p
    place = torch.multinomial(shares.masked_fill(outside, 0.0), 1, generator=generator)
    return int(order[place])


def _cut(answer: list[int], stops: tuple[int, ...]) -> TokenIds:
    """Up to the first stop, itself included."""
    ends = [place for place, token_id in enumerate(answer) if token_id in stops]
    return tuple(answer[: ends[0] + 1] if ends else answer)
