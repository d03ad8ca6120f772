"""A VQ-GAN as taming-transformers keeps it, a project YAML and a pickled `.ckpt`; both ways.

The format of github.com/CompVis/taming-transformers (arXiv 2012.09841), which the official
LLM-CXR release uses. Pickles are opened with `weights_only`: no code in them is run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from torch import Tensor

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.vqgan import VqGan, VqGanConfig
from llmcxr_training.conversion import ConversionError

NORM_GROUPS = 32
"""Fixed in the original code, so it is not in its project files."""
_TRAINING_ONLY = "loss."
_LIGHTNING = ("pytorch_lightning.", "lightning.")


class _Ddconfig(BaseModel):
    """`model.params.ddconfig`: encoder and decoder. A key that is not here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    double_z: bool
    z_channels: int
    resolution: int
    in_channels: int
    out_ch: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]
    dropout: float = 0.0
    resamp_with_conv: bool = True
    give_pre_end: bool = False

    @field_validator("double_z", "give_pre_end")
    @classmethod
    def _is_off(cls, value: bool) -> bool:
        if value:
            raise ValueError("must be false; with it the network is no VQ-GAN with one codebook")
        return value

    @field_validator("resamp_with_conv")
    @classmethod
    def _is_on(cls, value: bool) -> bool:
        if not value:
            raise ValueError("must be true; resampling without convolutions is not supported")
        return value


class _Params(BaseModel):
    """`model.params`; what concerns training only is passed over."""

    model_config = ConfigDict(frozen=True)

    embed_dim: int
    n_embed: int
    ddconfig: _Ddconfig


class _Model(BaseModel):
    params: _Params


class _Project(BaseModel):
    model: _Model


def read_project(path: Path) -> VqGanConfig:
    """Geometry of the VQ-GAN that a project YAML describes.

    Raises:
        ConversionError: unreadable, a missing or unknown key, or a geometry that is not ours.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        params = _Project.model_validate(values).model.params
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConversionError(f"{path.name} cannot be read as YAML") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConversionError(f"{path.name}: {'; '.join(problems)}") from error
    network = params.ddconfig
    if network.in_channels != network.out_ch:
        raise ConversionError(f"{path.name}: in_channels and out_ch differ")
    try:
        return VqGanConfig(
            image_size=network.resolution,
            image_channels=network.in_channels,
            base_channels=network.ch,
            channel_multipliers=network.ch_mult,
            res_blocks=network.num_res_blocks,
            attention_resolutions=network.attn_resolutions,
            latent_channels=network.z_channels,
            codebook_dim=params.embed_dim,
            codebook_size=params.n_embed,
            norm_groups=NORM_GROUPS,
        )
    except InvalidCheckpoint as error:
        raise ConversionError(f"{path.name}: {error}") from error


def write_project(path: Path, config: VqGanConfig) -> None:
    """Write the project YAML of a VQ-GAN, ready for the original code's `VQModel`.

    Raises:
        ConversionError: the original code cannot express this geometry.
    """
    if config.norm_groups != NORM_GROUPS:
        raise ConversionError(
            f"the original code normalises in {NORM_GROUPS} groups; this VQ-GAN has "
            f"{config.norm_groups}"
        )
    if config.upsampling != "nearest":
        raise ConversionError("the original code upsamples by nearest neighbours")
    if config.decoder_noise:
        raise ConversionError("the original code's decoder has no noise")
    project = {
        "model": {
            "target": "taming.models.vqgan.VQModel",
            "params": {
                "embed_dim": config.codebook_dim,
                "n_embed": config.codebook_size,
                "ddconfig": {
                    "double_z": False,
                    "z_channels": config.latent_channels,
                    "resolution": config.image_size,
                    "in_channels": config.image_channels,
                    "out_ch": config.image_channels,
                    "ch": config.base_channels,
                    "ch_mult": list(config.channel_multipliers),
                    "num_res_blocks": config.res_blocks,
                    "attn_resolutions": list(config.attention_resolutions),
                    "dropout": 0.0,
                },
                # `VQModel` wants one; this one has no weights.
                "lossconfig": {"target": "taming.modules.losses.vqperceptual.DummyLoss"},
            },
        }
    }
    path.write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")


def read_weights(path: Path, config: VqGanConfig) -> dict[str, Tensor]:
    """Weights of a `.ckpt` by the names of `VqGan`'s state dict, float32; losses left out.

    Raises:
        ConversionError: damaged, needs more than `weights_only` allows, or does not fit `config`.
    """
    opened = _unpickle(path)
    state = opened.get("state_dict", opened) if isinstance(opened, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConversionError(f"{path.name} holds no state_dict of tensors")
    weights = {k: v for k, v in state.items() if not k.startswith(_TRAINING_ONLY)}
    with torch.device("meta"):
        expected = {name: tuple(v.shape) for name, v in VqGan(config).state_dict().items()}
    for names, what in (
        (sorted(expected.keys() - weights.keys()), "lacks"),
        (sorted(weights.keys() - expected.keys()), "has, beside what the project file describes,"),
    ):
        if names:
            raise ConversionError(f"{path.name} {what} {_first_of(names)}")
    for name, shape in expected.items():
        found = tuple(weights[name].shape)
        if found != shape:
            raise ConversionError(f"{name} in {path.name} is {found}, by the project file {shape}")
    return {name: weights[name].float().contiguous() for name in expected}


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a `.ckpt` that the original code's `load_state_dict` takes."""
    with path.open("wb") as file:
        torch.save({"state_dict": weights}, file)


def _unpickle(path: Path) -> Any:  # noqa: ANN401  whatever the pickle holds
    if not path.is_file():
        raise ConversionError(f"there is no file {path}")
    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConversionError(_advice(path)) from error
    except Exception as error:  # a damaged pickle or archive raises anything
        raise ConversionError(f"{path.name} is damaged, or is no torch checkpoint") from error


def _stand_ins(path: Path) -> list[Any]:
    """An empty class for each Lightning class that the pickle names.

    Lightning keeps the states of its callbacks by their class. We need none of them, and an
    empty class of ours under that name runs nothing.
    """
    names = (n for n in _refused(path) if n.startswith(_LIGHTNING))
    return [(type("_StandIn", (), {}), name) for name in names]


def _refused(path: Path) -> list[str]:
    """Classes and functions in the pickle that `weights_only` refuses; found without running it."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no zip archive, or a damaged one: `torch.load` will say so
        return []


def _advice(path: Path) -> str:
    refused = [name for name in _refused(path) if not name.startswith(_LIGHTNING)]
    if not refused:
        return f"{path.name} is damaged, or is no torch checkpoint"
    return (
        f"{path.name} names {_first_of(refused)}, which could run code and is not opened; in the "
        'environment that wrote it, save torch.load(...)["state_dict"] to a file of its own with '
        'torch.save({"state_dict": ...}, ...) and import that one'
    )


def _first_of(names: list[str]) -> str:
    more = len(names) - 1
    return f"{names[0]} and {more} more" if more else names[0]
