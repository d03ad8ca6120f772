"""Metrics of what deciding about callers depends on: an issuer's keys, a store of rates."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class DoorMeasures:
    """Counts what becomes of asking others.

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
        self._keys_time = Gauge(
            "llmcxr_issuer_keys_timestamp_seconds",
            "When the issuer's public keys last came, Unix time; 0 before the first time.",
            registry=registry,
        )
        self._store_failures = Counter(
            "llmcxr_rate_store_failures",
            "Times that the shared store of rate limits did not answer; each replica counts alone.",
            registry=registry,
        )
        for outcome in ("done", "failed"):
            self._fetches.labels(outcome)

    def store_failed(self) -> None:
        """The store of rate limits did not answer."""
        self._store_failures.inc()

    def fetched(self, *, done: bool) -> None:
        """A fetch of the issuer's keys ended."""
        self._fetches.labels("done" if done else "failed").inc()
        if done:
            self._keys_time.set_to_current_time()
