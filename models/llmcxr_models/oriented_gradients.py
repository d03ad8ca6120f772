"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), differentiable to the pixels.

A fixed first layer for a network that sees few examples: it need not learn edges from some
hundred positives, and contrast is divided out place by place. Hybrids of a fixed front and learnt
layers learn from fewer examples (Oyallon et al., arXiv 1703.08961).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CELL, STRIDE = 8, 4
"""Side of a histogram's cell and distance between cells, pixels."""

_SMALL = 1e-4
"""Keeps the gradient of every root finite where a picture is flat."""

_CONTRAST_SCALE = 5.0
"""Brings the local contrast of radiographs to the order of 1."""


def channels(orientations: int) -> int:
    """Channels that `oriented_gradients` gives."""
    return orientations + 2


def oriented_gradients(grey: Tensor, orientations: int) -> Tensor:
    """Oriented gradients, mean brightness and local contrast of each cell.

    Args:
        grey: (B, 1, S, S) in [-1, 1], S a multiple of 4.
        orientations: directions of a full turn, so that dark-to-bright and its reverse differ.

    Returns:
        (B, orientations + 2, S / 4, S / 4), float32: the orientations divided by the contrast of
        3x3 cells, then brightness, then that contrast.
    """
    grey = grey.float() / 2.0
    across = F.pad(grey[..., 2:] - grey[..., :-2], (1, 1, 0, 0))
    down = F.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1))
    turn = torch.arange(orientations, device=grey.device).view(1, -1, 1, 1)
    angle = turn * (2.0 * math.pi / orientations)
    along = F.relu(across * torch.cos(angle) + down * torch.sin(angle))
    size = (across.square() + down.square() + _SMALL**2).sqrt()
    # A gradient's share in an orientation falls with the cosine of the angle between them.
    cells = F.avg_pool2d(along.square() / size, CELL, STRIDE, padding=(CELL - STRIDE) // 2)
    energy = F.avg_pool2d(cells.square().sum(dim=1, keepdim=True), 3, 1, 1)
    contrast = (energy + _SMALL).sqrt()
    brightness = F.avg_pool2d(grey, STRIDE, STRIDE)
    return torch.cat([cells / contrast, brightness, contrast * _CONTRAST_SCALE], dim=1)
