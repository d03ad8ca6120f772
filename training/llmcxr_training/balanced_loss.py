"""Binary cross-entropy that counts every finding the same, however rare."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def positive_weights(targets: NDArray[np.float32], largest: float) -> Tensor:
    """Negatives for each positive, by column of `targets` (N, F), from 0.1 to `largest`."""
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    weights = absent / np.maximum(present, 1)
    return torch.from_numpy(weights).float().clamp(0.1, largest)


def balanced_loss(logits: Tensor, targets: Tensor, positive_weights: Tensor) -> Tensor:
    """Binary cross-entropy (B, F), positives weighted by finding, unknown targets (NaN) left out.

    Each finding counts the same, however rare.
    """
    known = torch.isfinite(targets)
    losses = F.binary_cross_entropy_with_logits(
        logits, targets.nan_to_num(0.0), pos_weight=positive_weights, reduction="none"
    )
    # Positives are one in 1 + weight, so each finding's weights average 2 weight / (1 + weight).
    losses = losses * known * (1.0 + positive_weights) / (2.0 * positive_weights)
    return losses.sum() / known.sum().clamp(min=1)
