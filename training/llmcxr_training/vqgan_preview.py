"""What a VQ-GAN run shows while it goes on: reconstructions of fixed pictures, and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmcxr_models.preprocess import to_grey8
from llmcxr_training.data import Study
from llmcxr_training.metrics.reconstruction import (
    FINE_CYCLES,
    high_frequency_power,
    ms_ssim,
    psnr_db,
)

FRONTAL_PICTURES = 4
LATERAL_PICTURES = 2

GRID_PERIOD = 16
"""Pixels after which a decoder's upsampling repeats; its shorter periods repeat in it."""


def preview_rows(studies: Sequence[Study], rows: Sequence[int]) -> list[int]:
    """The first frontal and the first lateral radiographs of `rows`, always the same."""
    frontal = [row for row in rows if studies[row].is_frontal]
    lateral = [row for row in rows if not studies[row].is_frontal]
    return frontal[:FRONTAL_PICTURES] + lateral[:LATERAL_PICTURES]


def picture_grid(real: Tensor, reconstructed: Tensor) -> NDArray[np.uint8]:
    """Radiographs (N, C, S, S) over their reconstructions: grey (2 S, N S)."""
    lines = [np.concatenate([to_grey8(x) for x in p], axis=1) for p in (real, reconstructed)]
    return np.concatenate(lines)


def reconstruction_quality(real: Tensor, reconstructed: Tensor) -> dict[str, float]:
    """Means over (N, C, S, S) in [-1, 1]; pictures too small for a figure do not get it."""
    side = real.shape[-1]
    result = {"val_psnr_db": float(psnr_db(real, reconstructed).mean())}
    if side > 160:
        result["val_ms_ssim"] = float(ms_ssim(real, reconstructed).mean())
    if side > 2 * FINE_CYCLES:
        fine = (high_frequency_power(p).mean() for p in (reconstructed, real))
        result["val_high_frequency_ratio"] = float(next(fine) / next(fine))
    if side >= 2 * GRID_PERIOD:
        result["val_grid_excess"] = grid_excess(reconstructed) / grid_excess(real)
    return result


def grid_excess(pixels: Tensor) -> float:
    """Sharpest over mean sharpness of the `GRID_PERIOD` places within a period; at least 1.

    Upsampling leaves blocks, and their edges count as fine structure in every spectrum. They lie
    at the same places of every period; anatomy does not.
    """
    worst = 0.0
    for axis in (-1, -2):
        sharpness = torch.diff(pixels, n=2, dim=axis).abs().transpose(axis, -1).mean(dim=(0, 1, 2))
        periods = len(sharpness) // GRID_PERIOD
        places = sharpness[: periods * GRID_PERIOD].view(periods, GRID_PERIOD).mean(dim=0)
        worst = max(worst, float(places.max() / places.mean()))
    return worst
