"""Metrics of deliveries; labels are destinations' names and words from closed sets."""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llmcxr_service.deliveries.ledger import Entry
from llmcxr_service.deliveries.outcome import Reason
from llmcxr_service.deliveries.work import State

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Measures:
    """Counts attempts as they end, and shows what is in the queue.

    Args:
        registry: of the application.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "llmcxr_delivery_attempts",
            "Attempts to make or send a report, by what became of them.",
            ["target", "outcome"],
            registry=registry,
        )
        self._failures = Counter(
            "llmcxr_delivery_failures",
            "Failed attempts, by cause.",
            ["target", "reason"],
            registry=registry,
        )
        self.seconds = Histogram(
            "llmcxr_delivery_seconds",
            "Wall time of a successful send, seconds.",
            ["target"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._entries = Gauge(
            "llmcxr_deliveries",
            "Deliveries that are not done, by state.",
            ["target", "state"],
            registry=registry,
        )
        self._oldest = Gauge(
            "llmcxr_delivery_oldest_seconds",
            "Age of the oldest delivery that is still tried, seconds.",
            ["target"],
            registry=registry,
        )
        self._looked = Gauge(
            "llmcxr_deliveries_timestamp_seconds",
            "When the queue was last looked at, Unix time; what is shown of it is as old.",
            registry=registry,
        )
        self._circuit = Gauge(
            "llmcxr_delivery_circuit_open",
            "Whether a destination counts as down.",
            ["target"],
            registry=registry,
        )

    def count(self, target: str, outcome: str, cause: Reason | None = None) -> None:
        """One attempt ended."""
        self._attempts.labels(target, outcome).inc()
        if cause is not None:
            self._failures.labels(target, cause.value).inc()

    def show(
        self, targets: Sequence[str], entries: Sequence[Entry], circuits: Mapping[str, bool]
    ) -> None:
        """What is in the queue now."""
        counts = Count((entry.work.target, entry.state) for entry in entries)
        now = time.time()
        for target in targets:
            for state in (State.QUEUED, State.WAITING, State.WORKING, State.DEAD):
                self._entries.labels(target, state.value).set(counts[target, state])
            ages = [
                now - entry.work.since
                for entry in entries
                if entry.work.target == target and entry.state is not State.DEAD
            ]
            self._oldest.labels(target).set(max(ages, default=0.0))
        for target, is_open in circuits.items():
            self._circuit.labels(target).set(is_open)
        self._looked.set_to_current_time()
