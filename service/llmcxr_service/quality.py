"""How near a reconstruction is to its original: PSNR and MS-SSIM on grey model pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

_RANGE = 2.0
_MAX_PSNR_DB = 100.0
_REDUCTION = 16  # between the first and the last of five scales
_WINDOW = 11


class Quality(NamedTuple):
    """Fidelity of a reconstruction.

    Attributes:
        psnr_db: peak signal-to-noise ratio, decibels; 100 for identical pictures.
        ms_ssim: multi-scale structural similarity (Wang et al. 2003), 1 for identical pictures.
    """

    psnr_db: float
    ms_ssim: float


def compare(original: Tensor, reconstruction: Tensor) -> Quality:
    """Compare two pictures (C, S, S) in [-1, 1]."""
    first, second = (
        p.float().mean(0).clamp(-1.0, 1.0)[None, None] for p in (original, reconstruction)
    )
    error = float((first - second).square().mean())
    psnr = 10.0 * torch.log10(torch.tensor(_RANGE**2 / max(error, 1e-12)))
    similarity = ms_ssim(
        first + 1.0, second + 1.0, data_range=_RANGE, win_size=_window(original.shape[-1])
    )
    return Quality(min(float(psnr), _MAX_PSNR_DB), float(similarity))


def _window(side: int) -> int:
    """The usual 11 pixels, or the largest odd window that five scales of a small picture allow."""
    largest = (side - 1) // _REDUCTION + 1
    return min(_WINDOW, largest - (largest + 1) % 2)
