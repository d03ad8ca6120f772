"""Token-level perplexity of a causal language model on plain text, by strided windows.

Before and after fine-tuning it says how much language the model has lost. The number depends on
tokenizer, window and stride: state all three, compare only what agrees in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from llmcxr_training.data import DataError
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap
from llmcxr_training.precision import autocast, resolve_device

BLOCK = 256
"""Tokens that a bootstrap draws together: neighbours in a text are not independent."""


@dataclass(frozen=True)
class TextLoss:
    """Negative log-likelihoods (nats) of every token of a text but the first.

    Attributes:
        nll: (tokens - 1,).
        window: most tokens that the model saw at once.
        stride: tokens scored in each window after the first; each has at least
            `window - stride` tokens before it.
    """

    nll: NDArray[np.float64]
    window: int
    stride: int

    def perplexity(self, *, resamples: int = 1000) -> Interval:
        """exp(mean), the interval over blocks of neighbouring tokens."""
        return _interval(self.nll, resamples)

    def ratio_to(self, before: TextLoss, *, resamples: int = 1000) -> Interval:
        """This perplexity over `before`'s on the same tokens; the interval is of pairs.

        Raises:
            ValueError: another text, window or stride.
        """
        mine = (len(self.nll), self.window, self.stride)
        if mine != (len(before.nll), before.window, before.stride):
            raise ValueError("perplexities of the same tokens, window and stride are compared")
        return _interval(self.nll - before.nll, resamples)


def text_loss_of_model(
    folder: Path,
    text: Path,
    *,
    window: int = 1024,
    stride: int = 512,
    max_tokens: int | None = None,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
) -> TextLoss:
    """Score the text file `text` with the Hugging Face causal language model in `folder`.

    Args:
        folder: model and tokenizer; nothing is downloaded.
        text: UTF-8.
        window: most tokens at once.
        stride: tokens scored in each window.
        max_tokens: only the beginning of the text.
        device: `auto`, `cpu`, `cuda`.
        dtype: arithmetic.

    Raises:
        DataError: model or text cannot be read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
        content = text.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"perplexity of {folder} on {text}: {error}") from error
    target = resolve_device(device)
    ids = tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"]
    token_ids = torch.tensor(ids[:max_tokens])
    with autocast(target, dtype):
        return text_loss(
            nn.Module.to(model, target).eval(), token_ids, window=window, stride=stride
        )


@torch.no_grad()
def text_loss(
    model: nn.Module,
    token_ids: Tensor,
    *,
    window: int,
    stride: int,
    text_tokens: int | None = None,
) -> TextLoss:
    """Score `token_ids` (T,) with a Hugging Face causal language model, each token once.

    Args:
        model: gives logits over its vocabulary.
        token_ids: of the text.
        window: most tokens at once.
        stride: tokens scored in each window after the first.
        text_tokens: only the ids below this take part in the softmax. A model with image tokens
            is served like that, and was trained like that: what a text token is likelier than
            are the other text tokens.

    Raises:
        ValueError: fewer than two tokens, or a stride outside 1 to `window` - 1.
    """
    length = len(token_ids)
    if length < 2 or not 1 <= stride < window:
        raise ValueError("two tokens at least, and a stride within the window")
    device = next(model.parameters()).device
    parts: list[Tensor] = []
    done = 1  # the first token has nothing before it
    progress = tqdm(total=length, initial=1, desc="perplexity", unit="token")
    with progress:
        while done < length:
            end = min(length, done + stride if parts else window)
            begin = max(0, end - window)
            ids = token_ids[begin:end].to(device)
            scored = end - done
            # Of the other tokens only the states are needed.
            output = model(input_ids=ids.unsqueeze(0), use_cache=False, logits_to_keep=scored + 1)
            scores = output.logits[0, :-1, :text_tokens].float()
            nll = F.cross_entropy(scores, ids[-scored:], reduction="none")
            parts.append(nll.double().cpu())
            progress.update(scored)
            done = end
    return TextLoss(torch.cat(parts).numpy(), window, stride)


def _interval(values: NDArray[np.float64], resamples: int) -> Interval:
    """exp(mean) of values by token, drawn in blocks that are summed once."""
    starts = np.arange(0, len(values), BLOCK)
    sums = np.add.reduceat(values, starts)
    sizes = np.diff(np.append(starts, len(values)))

    def statistic(rows: Indices) -> float:
        return math.exp(sums[rows].sum() / sizes[rows].sum())

    interval = bootstrap(statistic, len(starts), resamples=resamples)
    return replace(interval, n=len(values))
