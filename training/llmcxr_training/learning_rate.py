"""The learning-rate schedule of every run here: a linear warm-up, then a cosine."""

from __future__ import annotations

import math


def warm_cosine(step: int, warmup_steps: int, steps: int, final_share: float = 0.0) -> float:
    """Share of the peak learning rate at `step`, counted from 0.

    Args:
        step: the step about to be taken.
        warmup_steps: steps of the linear rise.
        steps: all steps; the share stays at its last value beyond them.
        final_share: where the cosine ends.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
