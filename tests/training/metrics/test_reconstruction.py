"""Images whose distance, sharpness or codes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from llmcxr_training.metrics import reconstruction as measure


def noise(n: int = 2, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 0.2


def wave(cycles: int, side: int = 128) -> torch.Tensor:
    x = torch.arange(side) * (2 * math.pi * cycles / side)
    return (0.5 * torch.sin(x)).expand(1, 1, side, side)


def test_psnr_of_a_known_error() -> None:
    real = torch.zeros(2, 1, 8, 8)
    off = real.clone()
    off[0] += 0.2  # a tenth of the range [-1, 1]
    off[1] += 0.02
    assert measure.psnr_db(real, off) == pytest.approx([20.0, 40.0], abs=1e-3)
    assert np.isinf(measure.psnr_db(real, real)).all()
    over = torch.full_like(real, 3.0)
    assert measure.psnr_db(over, torch.ones_like(real)).min() == math.inf


def test_ms_ssim_is_one_for_equals_and_falls_with_noise() -> None:
    real = F.interpolate(noise(side=16), 176, mode="bicubic")
    assert measure.ms_ssim(real, real) == pytest.approx([1.0, 1.0], abs=1e-5)
    little, much = (measure.ms_ssim(real, real + k * noise(side=176)) for k in (0.2, 2.0))
    assert (little < 1.0).all()
    assert (little > much).all()
    with pytest.raises(ValueError, match="160"):
        measure.ms_ssim(noise(), noise())


def test_power_is_where_the_wave_is() -> None:
    below, above = (measure.high_frequency_power(wave(c))[0] for c in (20, 45))
    assert above > 1e6 * below
    assert measure.high_frequency_power(wave(20), above_cycles=10)[0] > 0.5 * above
    with pytest.raises(ValueError, match="pixels"):
        measure.high_frequency_power(noise(side=64))


def test_blur_lowers_the_ratio_and_noise_raises_it() -> None:
    real = noise(side=128)
    power = measure.high_frequency_power(real)
    same = measure.high_frequency_ratio(power, power)
    assert (same.value, same.low, same.high, same.n) == (1.0, 1.0, 1.0, 2)
    half = measure.high_frequency_power(0.5 * real + 0.3)
    assert measure.high_frequency_ratio(power, half).value == pytest.approx(0.25)
    blurred = measure.high_frequency_power(F.avg_pool2d(real, 3, 1, 1))
    assert measure.high_frequency_ratio(power, blurred).value < 0.3
    noisy = measure.high_frequency_power(real + noise(side=128, seed=1))
    assert measure.high_frequency_ratio(power, noisy).value == pytest.approx(2.0, rel=0.1)


def test_an_edge_of_the_image_is_no_fine_structure() -> None:
    ramp = torch.linspace(-1, 1, 128).expand(1, 1, 128, 128)
    assert (
        measure.high_frequency_power(ramp)[0]
        < 1e-3 * measure.high_frequency_power(noise(side=128))[0]
    )


def test_codes_that_are_used() -> None:
    codes = torch.tensor([[0, 0, 1], [2, 2, 1]])
    counts = measure.code_counts(codes, 4)
    assert counts.tolist() == [2, 2, 2, 0]
    assert measure.codebook_usage(counts) == 0.75
    assert measure.codebook_perplexity(counts) == pytest.approx(3.0)
    one = measure.code_counts(torch.zeros(5, dtype=torch.long), 4)
    assert measure.codebook_perplexity(one) == pytest.approx(1.0)
