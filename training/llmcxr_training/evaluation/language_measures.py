"""`language.*`: perplexity of the base model and of the checkpoint, on the same tokens."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llmcxr_models.checkpoint import LLM_FOLDER, Checkpoint, sha256
from llmcxr_training.base_model import load_base
from llmcxr_training.data import DataError
from llmcxr_training.evaluation.figures import Figures
from llmcxr_training.evaluation.pictures import Arrays, kept
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.metrics.perplexity import TextLoss, text_loss
from llmcxr_training.precision import autocast, resolve_device, resolve_precision

NAME = "wikitext2_ppl"
PART_STRIDES = 64
"""Strides in a part of the text; a killed evaluation loses at most these."""


def language_measures(
    figures: Figures, config: Evaluation, checkpoint: Checkpoint, folder: Path
) -> TextLoss:
    """Add perplexity before and after fine-tuning, and their ratio.

    Returns:
        The checkpoint's losses, token by token.

    Raises:
        DataError: the text cannot be read, or the two models count its tokens otherwise.
        BaseModelError: the base model cannot be loaded.
    """
    try:
        content = config.text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{config.text.name} cannot be read") from error
    token_ids = torch.tensor(checkpoint.load_tokenizer().encode_text(content))
    token_ids = token_ids[: config.language.max_tokens]
    weights = [d for n, d in checkpoint.manifest.files.items() if n.startswith(f"{LLM_FOLDER}/")]

    def before() -> nn.Module:
        with TemporaryDirectory(dir=folder) as scratch:
            model, tokenizer = load_base(config.base, Path(scratch))
        _check_tokens(tokenizer, content, token_ids)
        return model

    def after() -> nn.Module:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            checkpoint.llm_path, local_files_only=True, dtype=torch.float32
        )
        return model

    text_tokens = checkpoint.manifest.vocabulary.image_offset
    first = _loss(config, folder, digest_of_base(config.base), token_ids, text_tokens, before)
    second = _loss(config, folder, "".join(weights), token_ids, text_tokens, after)
    figures.add(f"language.{NAME}_before", first.perplexity(resamples=config.resamples))
    figures.add(f"language.{NAME}_after", second.perplexity(resamples=config.resamples))
    figures.add(f"language.{NAME}_ratio", second.ratio_to(first, resamples=config.resamples))
    return second


def _loss(
    config: Evaluation,
    folder: Path,
    model_digest: str,
    token_ids: torch.Tensor,
    text_tokens: int,
    load: Callable[[], nn.Module],
) -> TextLoss:
    """Every part is kept under everything that it depends on: a whole text takes long."""
    window, stride = config.language.window, config.language.stride
    device = resolve_device(config.device)
    dtype = resolve_precision(config.precision, device)
    loaded = functools.cache(lambda: load().to(device).eval())
    losses = []
    for begin, end, dropped in parts(len(token_ids), window, stride):
        ids = token_ids[begin:end]

        def compute(ids: torch.Tensor = ids) -> Arrays:
            with autocast(device, dtype):
                found = text_loss(
                    loaded(), ids, window=window, stride=stride, text_tokens=text_tokens
                )
            return {"nll": found.nll}

        settings = (model_digest, window, stride, dtype, text_tokens)
        said = hashlib.sha256("\0".join(map(str, settings)).encode())
        said.update(ids.numpy().tobytes())
        path = folder / f"text-loss-{said.hexdigest()[:16]}.npz"
        losses.append(kept(path, compute)["nll"][dropped:])
    return TextLoss(np.concatenate(losses), window, stride)


def parts(
    length: int, window: int, stride: int, strides: int = PART_STRIDES
) -> list[tuple[int, int, int]]:
    """Parts of a text that together are scored as the whole is: begin, end, losses to drop.

    Windows end at `window`, then every `stride`. A part that begins one window before such an end
    therefore goes on with the windows of the whole text; its first window was scored already.
    """
    found = [(0, min(length, window + strides * stride), 0)]
    while found[-1][1] < length:
        end = found[-1][1]
        found.append((end - window, min(length, end + strides * stride), window - 1))
    return found


def _check_tokens(
    tokenizer: PreTrainedTokenizerBase, content: str, token_ids: torch.Tensor
) -> None:
    ids = tokenizer(content, add_special_tokens=False, verbose=False)["input_ids"]
    if ids[: len(token_ids)] != token_ids.tolist():
        raise DataError("base model and checkpoint do not make the same tokens of the text")


def digest_of_base(base: Path) -> str:
    """Of the weights of a base model, whatever its kind."""
    if base.is_dir():
        files = sorted(base.glob("*.safetensors")) + sorted(base.glob("*.bin"))
        return "".join(sha256(file) for file in files)
    return sha256(base) if base.is_file() else base.name
