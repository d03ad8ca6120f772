"""Whether two systems differ on the same cases: paired approximate randomisation.

If they did not differ, it would not matter which of the two gave which answer to a case. So the
answers of a random half of the cases are exchanged, again and again, and the p-value is the share
of exchanges with a difference at least as large (Noreen, 1989; as in sacrebleu's paired test).
Patients are exchanged whole. It fits every figure, also those that repetitions would distort.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def permutation_p(
    difference: Callable[[NDArray[np.bool_]], float],
    groups: Sequence[Hashable],
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> float:
    """Two-sided p-value, never 0: the observed order counts as one of the exchanges.

    Args:
        difference: second minus first, where the rows (N,) that are true are exchanged.
        groups: the patient of each row.
        permutations: exchanges that are drawn.
        seed: of the drawing.

    Raises:
        ValueError: no rows.
    """
    if not len(groups):
        raise ValueError("a permutation test needs rows")
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    owner = np.array([number[group] for group in groups])
    observed = abs(difference(np.zeros(len(owner), bool)))
    rng = np.random.default_rng(seed)
    found = [abs(difference((rng.random(len(number)) < 0.5)[owner])) for _ in range(permutations)]
    drawn = np.array([value for value in found if np.isfinite(value)])
    # Sums in another order differ in their last digits.
    as_large = int((drawn >= observed - 1e-12).sum())
    return (as_large + 1) / (len(drawn) + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm, 1979), by the same keys."""
    ordered = sorted(p_values, key=lambda key: p_values[key])
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, key in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - place) * p_values[key]))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}
