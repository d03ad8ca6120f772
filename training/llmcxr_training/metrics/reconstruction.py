"""How much of an image survives the VQ-GAN. Images are (N, C, S, S) in [-1, 1].

PSNR alone is met by blur, so `high_frequency_power` is measured beside it: ribs and vessels.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

from llmcxr_training.metrics.intervals import Interval, bootstrap

FINE_CYCLES = 32
"""Structure of more cycles than this per image is fine: details of less than 1/64 of its side."""

Values = NDArray[np.float64]
"""(N,), one value an image."""


def psnr_db(real: Tensor, reconstructed: Tensor) -> Values:
    """Peak signal-to-noise ratio of each image, dB; infinite for equal images."""
    error = (_unit(real) - _unit(reconstructed)).square().mean(dim=(1, 2, 3))
    return _array(-10.0 * torch.log10(error))


def ms_ssim(real: Tensor, reconstructed: Tensor) -> Values:
    """Multi-scale structural similarity of each image (Wang et al., Asilomar 2003), 5 scales.

    Raises:
        ValueError: images of 160 pixels or less.
    """
    if min(real.shape[-2:]) <= 160:
        raise ValueError("MS-SSIM needs images of more than 160 pixels")
    similarity = _ms_ssim(_unit(real), _unit(reconstructed), data_range=1.0, size_average=False)
    return _array(similarity)


def high_frequency_power(pixels: Tensor, *, above_cycles: int = FINE_CYCLES) -> Values:
    """Radially averaged spectral power above `above_cycles` per image, of each image.

    Power is averaged over each ring of one cycle's width, and then over the rings up to the
    Nyquist frequency. A Hann window first: an image's edges do not meet, and their jump would
    count as fine structure.

    Raises:
        ValueError: too few pixels for so many cycles.
    """
    grey = pixels.double().mean(dim=1)
    side = grey.shape[-1]
    if side // 2 <= above_cycles:
        raise ValueError(f"{above_cycles} cycles need more than {2 * above_cycles} pixels")
    grey = grey - grey.mean(dim=(-2, -1), keepdim=True)
    hann = torch.hann_window(side, periodic=True, dtype=grey.dtype, device=grey.device)
    power = torch.fft.fft2(grey * hann[:, None] * hann[None, :]).abs().square()
    cycles = torch.fft.fftfreq(side, d=1.0 / side, device=grey.device)
    ring = torch.sqrt(cycles[:, None].square() + cycles[None, :].square()).round().long()
    rings = int(ring.max()) + 1
    sums = torch.zeros(len(grey), rings, dtype=power.dtype, device=power.device)
    sums.index_add_(1, ring.flatten(), power.flatten(1))
    counts = torch.bincount(ring.flatten(), minlength=rings)
    return _array((sums / counts)[:, above_cycles + 1 : side // 2 + 1].mean(dim=1))


def high_frequency_ratio(
    real_power: Values,
    reconstructed_power: Values,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
) -> Interval:
    """Mean fine power of the reconstructions over that of the real images; 1 is right."""
    return bootstrap(
        lambda rows: float(reconstructed_power[rows].mean() / real_power[rows].mean()),
        len(real_power),
        groups=groups,
        resamples=resamples,
    )


def code_counts(codes: Tensor, codebook_size: int) -> NDArray[np.int64]:
    """How often each code occurs in `codes` (any shape): (codebook_size,)."""
    return torch.bincount(codes.flatten().cpu(), minlength=codebook_size).numpy()


def codebook_usage(counts: NDArray[np.int64]) -> float:
    """Share of the codes that occur at all."""
    return float((counts > 0).mean())


def codebook_perplexity(counts: NDArray[np.int64]) -> float:
    """exp(entropy) of the codes' distribution: how many equally frequent codes it is worth."""
    shares = counts[counts > 0] / counts.sum()
    return math.exp(-float((shares * np.log(shares)).sum()))


def _unit(pixels: Tensor) -> Tensor:
    return pixels.float().clamp(-1.0, 1.0).add(1.0).div(2.0)


def _array(values: Tensor) -> Values:
    return values.detach().cpu().double().numpy()
