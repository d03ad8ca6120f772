"""MS-SSIM of pairs of drawn pictures."""

from __future__ import annotations

import pytest
import torch

from llmcxr_training.metrics.diversity import ms_ssim_within, pairwise_ms_ssim


def test_the_same_picture_is_one() -> None:
    picture = torch.rand(1, 1, 176, 176, generator=torch.Generator().manual_seed(0)) * 2 - 1
    same = picture.expand(3, -1, -1, -1)
    assert pairwise_ms_ssim(same) == pytest.approx(1.0, abs=1e-4)
    other = torch.cat([picture, -picture])
    assert pairwise_ms_ssim(other) < 0.5
    assert ms_ssim_within([same, other]).tolist() == pytest.approx(
        [1.0, pairwise_ms_ssim(other)], abs=1e-4
    )


def test_one_picture_is_no_pair() -> None:
    with pytest.raises(ValueError, match="pair"):
        pairwise_ms_ssim(torch.zeros(1, 1, 176, 176))
