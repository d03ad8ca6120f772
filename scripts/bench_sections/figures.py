"""What `make bench` promises: figures, where each comes from, and its goal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Figures = dict[str, Any]


class Bound(StrEnum):
    """How a figure is compared with its goal."""

    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True)
class Figure:
    """One figure of docs/benchmarks/latest.json.

    Attributes:
        key: its name at the top of the file.
        section: that measures it.
        path: where it is in the section, with dots; a number, or a ratio with an interval.
        words: what it is, for the table.
        bound: how it is compared with the goal; None where there is no goal.
        goal: what it is compared with.
        unit: of both.
    """

    key: str
    section: str
    path: str
    words: str
    bound: Bound | None = None
    goal: float | None = None
    unit: str = ""

    def found(self, sections: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Its value, low and high; None where it was not measured."""
        found: Any = sections.get(self.section)
        for name in self.path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            return None
        return found if isinstance(found, Mapping) else {"value": found, "low": None, "high": None}

    def is_met(self, value: float) -> bool | None:
        """Whether a value is within the goal; None where there is no goal."""
        if self.bound is None or self.goal is None:
            return None
        return value <= self.goal if self.bound is Bound.AT_MOST else value >= self.goal


_MOST, _LEAST = Bound.AT_MOST, Bound.AT_LEAST
FIGURES = (
    Figure(
        "images_vs_official_at_1",
        "throughput",
        "images.vs_official.1",
        "images a second, one at a time: gateway / the published way",
        _LEAST,
        2.0,
    ),
    Figure(
        "images_vs_official_at_16",
        "throughput",
        "images.vs_official.16",
        "images a second, 16 at once: gateway / the published way",
        _LEAST,
        10.0,
    ),
    Figure(
        "reports_vs_official_at_16",
        "throughput",
        "reports.vs_official.16",
        "reports a second, 16 at once: gateway / the published way",
        _LEAST,
        10.0,
    ),
    Figure(
        "reports_vs_official_at_32",
        "throughput",
        "reports.vs_official.32",
        "reports a second, 32 at once: gateway / the published way",
        _LEAST,
        10.0,
    ),
    Figure(
        "throughput_vs_raw_vllm",
        "overhead",
        "throughput.text.ratio",
        "tokens a second at saturation: gateway / vLLM alone",
        _LEAST,
        0.97,
    ),
    Figure(
        "added_ms_p50",
        "overhead",
        "added_ms.text.p50",
        "added by the gateway to a request, p50",
        _MOST,
        5.0,
        "ms",
    ),
    Figure(
        "added_ms_p99",
        "overhead",
        "added_ms.text.p99",
        "added by the gateway to a request, p99",
        unit="ms",
    ),
    Figure(
        "vqgan_batched_vs_torch",
        "vqgan",
        "batched_vs_torch",
        "VQ-GAN images a second: micro-batches of the service / bare torch at its best batch",
        _LEAST,
        0.95,
    ),
    Figure(
        "decode_vs_pydicom",
        "decode",
        "decode_vs_pydicom",
        "files a second and core: decoded and scaled for the model / pydicom's pixels alone",
    ),
    Figure(
        "seconds_to_first_report",
        "start",
        "second.seconds_to_first_report",
        "from a second `make demo` to its first report",
        _MOST,
        60.0,
        "s",
    ),
    Figure(
        "roofline_share",
        "roofline",
        "share.saturated",
        "tokens a second at saturation / the machine's bound for this model",
    ),
)


def summary(sections: Mapping[str, Any]) -> Figures:
    """The top of the file: each figure by its key, and beside them `goals` with the rest."""
    values: Figures = {}
    goals: Figures = {}
    for figure in FIGURES:
        found = figure.found(sections)
        value = None if found is None else float(found["value"])
        values[figure.key] = value
        goals[figure.key] = {
            "low": None if found is None else found["low"],
            "high": None if found is None else found["high"],
            "goal": figure.goal,
            "bound": figure.bound,
            "unit": figure.unit,
            "met": None if value is None else figure.is_met(value),
            "section": figure.section,
        }
    return {**values, "goals": goals}
