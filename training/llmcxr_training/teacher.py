"""What takes steps of its own between two steps of the whole model, on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from llmcxr_training.data import Study


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
