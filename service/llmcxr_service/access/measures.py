"""Metrics of the issuer's keys: whether they can be fetched, and when they last were."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class IssuerMeasures:
    """Counts fetches of an issuer's keys.

    Args:
        registry: of the application.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._fetches = Counter(
            "llmcxr_issuer_fetches",
            "Times that the issuer's public keys were fetched, by what became of it.",
            ["outcome"],
            registry=registry,
        )
        self._fetched = Gauge(
            "llmcxr_issuer_keys_timestamp_seconds",
            "When the issuer's public keys last came, Unix time; 0 before the first time.",
            registry=registry,
        )
        for outcome in ("done", "failed"):
            self._fetches.labels(outcome)

    def count(self, *, done: bool) -> None:
        """A fetch ended."""
        self._fetches.labels("done" if done else "failed").inc()
        if done:
            self._fetched.set_to_current_time()
