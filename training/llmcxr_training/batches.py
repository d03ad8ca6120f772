"""Examples to tensors, and what their losses are divided by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from llmcxr_models.prompt import Task
from llmcxr_training.instructions import Example


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Token ids, loss weights and branches (B, T), padded on the right with id 0 of weight 0.

    Branches are None where no example has any.
    """
    longest = max(len(example.token_ids) for example in examples)
    token_ids = torch.zeros(len(examples), longest, dtype=torch.long)
    weights = torch.zeros(len(examples), longest)
    branches = torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        token_ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        weights[row, : len(example.weights)] = torch.tensor(example.weights)
        branches[row, : len(example.branches)] = torch.tensor(example.branches)
        if example.branches:
            # Padding is a branch of its own: the trunk comes first.
            branches[row, len(example.branches) :] = example.branches[-1] + 1
    return token_ids, weights, branches if branches.any() else None


def anchored(examples: Sequence[Example]) -> Tensor | None:
    """Which tokens (B, T) of a batch's plain language are compared with the base model's
    predictions: all that have one before them; None where there are none.
    """
    lengths = torch.tensor([len(e.token_ids) if _is_plain(e) else 0 for e in examples])
    places = torch.arange(max(len(example.token_ids) for example in examples))
    chosen = (places > 0) & (places < lengths.unsqueeze(1))
    return chosen if chosen.any() else None


def total_weights(examples: Iterable[Example], image_offset: int) -> tuple[float, float, float]:
    """Sums of the loss weights of image and of text targets (a first token is no target), and
    the number of tokens that an anchor compares.
    """
    image = text = plain = 0.0
    for example in examples:
        plain += len(example.token_ids) - 1 if _is_plain(example) else 0
        for token_id, weight in zip(example.token_ids[1:], example.weights[1:], strict=True):
            if token_id >= image_offset:
                image += weight
            else:
                text += weight
    return image, text, plain


def _is_plain(example: Example) -> bool:
    return example.task is Task.INSTRUCTION
