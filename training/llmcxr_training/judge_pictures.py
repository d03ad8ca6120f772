"""Training pictures of the judge: turned, scaled, shifted and changed in contrast.

Never mirrored: the heart has a side.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from llmcxr_training.encode_images import Augmentation, augment


class JudgeAugmentation(BaseModel):
    """How much a training picture is changed.

    Attributes:
        degrees: largest rotation.
        scale: largest relative enlargement or reduction.
        shift_pixels: largest translation, pixels of the judge's input.
        contrast: largest relative change of contrast, and absolute change of brightness.
        gamma: largest change of the tone curve's exponent, as a factor's logarithm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    degrees: float = 8.0
    scale: float = 0.1
    shift_pixels: int = 10
    contrast: float = 0.2
    gamma: float = 0.25


def augmented(pixels: Tensor, settings: JudgeAugmentation, generator: torch.Generator) -> Tensor:
    """Change each of (B, C, S, S) in [-1, 1] in its own way."""
    turned = _turn_and_scale(pixels, settings, generator)
    plain = Augmentation(shift_pixels=settings.shift_pixels, contrast=settings.contrast)
    changed = augment(turned, plain, generator)
    exponent = torch.exp(_uniform((len(pixels), 1, 1, 1), settings.gamma, generator))
    return ((changed + 1.0) / 2.0).pow(exponent) * 2.0 - 1.0


def _turn_and_scale(
    pixels: Tensor, settings: JudgeAugmentation, generator: torch.Generator
) -> Tensor:
    batch = len(pixels)
    angle = _uniform((batch,), math.radians(settings.degrees), generator)
    factor = 1.0 + _uniform((batch,), settings.scale, generator)
    cos, sin, zero = torch.cos(angle) * factor, torch.sin(angle) * factor, torch.zeros(batch)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(batch, 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _uniform(shape: tuple[int, ...], limit: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul(2).sub(1) * limit
