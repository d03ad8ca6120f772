"""A running mean of weights: steadier than the last step's, and what is shown and exported."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """Exponential running mean of a network's weights (Polyak and Juditsky, 1992).

    Args:
        network: followed; its copy starts equal.
        decay: weight of the past at each step, 0 for none. The first steps' weights are not
            worth remembering, so it starts smaller.

    Attributes:
        network: the copy, in evaluation mode, frozen.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after `step`; what is not trained is copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, value in zip(self.network.parameters(), network.parameters(), strict=True):
            if value.requires_grad:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
        # Statistics of batch normalisation belong to the weights: they are as old as those.
        for kept, latest in zip(self.network.buffers(), network.buffers(), strict=True):
            if latest.is_floating_point():
                kept.lerp_(latest, 1 - decay)
            else:
                kept.copy_(latest)

    def state_dict(self) -> dict[str, Any]:
        """The copy's weights."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.network.load_state_dict(state)
