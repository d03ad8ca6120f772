"""How OpenMP's threads wait for work, where several processes share few cores."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = "2000"
"""Rounds for which an idle thread looks for work before it sleeps; some 0.1 ms."""


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let idle threads spin for a moment, then sleep; what the environment says goes before.

    OpenMP's own default spins for milliseconds and takes the cores of those that are waited for.
    Not to spin at all costs a wake-up at each of the hundreds of small products of a step: it
    halves the tokens a second of a small model (docs/benchmarks/README.md, "What was tuned").
    Read when the OpenMP library is loaded, so before torch is.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # libgomp's own; it goes before the policy, which alone would mean no round at all.
    environment.setdefault("GOMP_SPINCOUNT", SPINS)
