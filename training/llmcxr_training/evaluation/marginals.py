"""Images that no language model has seen: codes drawn from how often each occurs in training.

The unconditional floor of image generation: whoever draws no better has learnt no order of codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint16]
"""(N, image_length)"""


def from_marginals(train: Codes, count: int, seed: int) -> Codes:
    """`count` images, every code drawn by its frequency over all positions."""
    rng = np.random.default_rng(seed)
    return rng.choice(train.ravel(), size=(count, train.shape[1]))


def from_position_marginals(train: Codes, count: int, seed: int) -> Codes:
    """The same by the frequency at its own position: lungs are dark and lie where lungs lie."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(train), size=(count, train.shape[1]))
    return np.asarray(train[rows, np.arange(train.shape[1])], np.uint16)
