"""Weights of a network from a safetensors file that somebody else has written."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from llmcxr_models.errors import InvalidCheckpoint

Network = TypeVar("Network", bound=nn.Module)


def with_weights(network: Network, path: Path, refusal: str) -> Network:
    """`network` itself, with the weights in `path`.

    Args:
        network: its weights are replaced.
        path: of the safetensors file.
        refusal: what is said where they do not fit.

    Raises:
        InvalidCheckpoint: the file is missing, damaged, or of another shape.
    """
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InvalidCheckpoint(refusal) from error
    return network
