"""How a request to vLLM says what an image is to show. Pure; read by what guides inside vLLM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST_STRENGTH = 1.0
"""Nats, of what the gateway asks for; well above it images fall apart (docs/training-notes.md)."""

LOGITS_PROCESSOR = "llmcxr_models.vllm_guidance:FindingGuidance"
"""By name: vLLM imports it, nobody else does."""

WEIGHTS, STRENGTH = "finding_weights", "guidance_strength"


def write_request(weights: Sequence[float], strength: float) -> dict[str, Any]:
    """`vllm_xargs` of a request.

    Args:
        weights: how much each finding of the tables is wanted.
        strength: nats, see `FindingTilt.scaled`.
    """
    return {WEIGHTS: list(weights), STRENGTH: strength}


def read_request(extra: Mapping[str, Any] | None) -> tuple[list[float] | None, float]:
    """The inverse: weights, None for no guidance, and strength.

    Raises:
        ValueError: they are no numbers, there are none, or only one of the two is given.
    """
    given = extra or {}
    if WEIGHTS not in given and STRENGTH not in given:
        return None, 0.0
    weights, strength = given.get(WEIGHTS), given.get(STRENGTH, math.nan)
    if not isinstance(weights, list) or not weights or not all(map(_is_number, weights)):
        raise ValueError(f"{WEIGHTS} must be a list of numbers")
    if not _is_number(strength) or strength < 0.0:
        raise ValueError(f"{STRENGTH} must be a number from 0")
    return [float(weight) for weight in weights], float(strength)


def _is_number(value: Any) -> bool:  # noqa: ANN401  whatever a request has
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
