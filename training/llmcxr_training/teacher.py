"""What takes steps of its own between two steps of the whole model, on the same weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llmcxr_training.data import DataError, Study
from llmcxr_training.run_state import load_moments


class Teacher(Protocol):
    """Teaches a part of the model something that its usual examples teach too slowly.

    Attributes:
        name: of what it teaches; in logs and in a run's state.
    """

    name: str

    def steps(self, number: int, learning_rate_share: float, gradient_clip: float) -> float:
        """Those before step `number` of the run; their mean loss.

        Raises:
            FloatingPointError: a gradient is not finite; it has changed nothing.
        """
        ...

    def measure(self, studies: Sequence[Study]) -> dict[str, float]:
        """How far it has come, on studies of validation patients; by name of the figure."""
        ...

    def state(self) -> dict[str, Any]:
        """What `load` goes on from, beside the model's weights."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; learning rates stay those of the settings.

        Raises:
            DataError: it is of other settings.
        """
        ...


class OwnOptimizer:
    """A teacher's optimiser. Not the run's: their losses differ in size and in noise.

    Args:
        name: of the teacher, for errors.
        groups: parameters with the peak of their learning rate.
    """

    def __init__(self, name: str, groups: Sequence[tuple[Iterable[nn.Parameter], float]]) -> None:
        self._name = name
        self._adamw = torch.optim.AdamW(
            [{"params": list(parameters), "peak": peak} for parameters, peak in groups],
            lr=groups[0][1],
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )

    def follow(self, learning_rate_share: float) -> None:
        """Set the learning rates to a share of their peaks."""
        for group in self._adamw.param_groups:
            group["lr"] = group["peak"] * learning_rate_share

    def step(self, number: int, losses: Iterable[Tensor], gradient_clip: float) -> float:
        """One step down the sum of `losses`, each computed when the one before is done with.

        Raises:
            FloatingPointError: a gradient is not finite; it has changed nothing.
        """
        # No micro batch of the run may have left anything.
        self._adamw.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()
            total += loss.item()
        parameters = [p for group in self._adamw.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, gradient_clip)
        if not math.isfinite(float(norm)):
            raise FloatingPointError(f"the gradient of {self._name} step {number} is not finite")
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return total

    def state(self) -> dict[str, Any]:
        """Its moments."""
        return self._adamw.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; peaks stay as they are.

        Raises:
            DataError: it is of other parameters.
        """
        try:
            load_moments(self._adamw, state, ("peak", "betas", "weight_decay"))
        except ValueError as error:
            raise DataError(f"the saved state is of other {self._name}_steps") from error
