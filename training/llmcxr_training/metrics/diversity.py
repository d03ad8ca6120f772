"""How alike images are that should not be: MS-SSIM between pairs (Odena et al., arXiv 1610.09585).

1 is the same image; lower is more varied. Read it beside the same figure of real images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmcxr_training.metrics.reconstruction import ms_ssim


def pairwise_ms_ssim(images: Tensor) -> float:
    """Mean MS-SSIM over all pairs of `images` (N, C, S, S) in [-1, 1].

    Raises:
        ValueError: fewer than two images, or images of 160 pixels or less.
    """
    if len(images) < 2:
        raise ValueError("a pair needs two images")
    pairs = torch.tensor(list(combinations(range(len(images)), 2)))
    return float(ms_ssim(images[pairs[:, 0]], images[pairs[:, 1]]).mean())


def ms_ssim_within(groups: Sequence[Tensor]) -> NDArray[np.float64]:
    """`pairwise_ms_ssim` of each group, for example of the images of one prompt: (groups,)."""
    return np.array([pairwise_ms_ssim(images) for images in groups])
