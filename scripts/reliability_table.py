"""The table of docs/reliability.json: every promise with its figure, in one place.

`docs/reliability.md` has the same table between two marks; it is written anew with the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = ("Section", "Figure", "Measured", "Must be", "Holds")


class Bound(StrEnum):
    """How a figure is compared."""

    AT_MOST = "<="
    BELOW = "<"
    AT_LEAST = ">="


@dataclass(frozen=True)
class Promise:
    """One figure and its bound.

    Attributes:
        section: of docs/reliability.json.
        words: what the figure is.
        path: where it is in the section, with dots.
        bound: how it is compared.
        limit: with what.
        unit: of both.
    """

    section: str
    words: str
    path: str
    bound: Bound
    limit: float
    unit: str = ""

    def measured(self, figures: Mapping[str, Any]) -> float | None:
        """The figure; None where it was not measured."""
        found: Any = figures.get(self.section)
        for name in self.path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return None if found is None else float(found)

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """Whether it was measured and is within the bound."""
        value = self.measured(figures)
        if value is None:
            return False
        match self.bound:
            case Bound.AT_MOST:
                return value <= self.limit
            case Bound.BELOW:
                return value < self.limit
            case Bound.AT_LEAST:
                return value >= self.limit


_MOST, _LEAST, _BELOW = Bound.AT_MOST, Bound.AT_LEAST, Bound.BELOW
PROMISES = (
    Promise("contract", "cases made from the OpenAPI document", "cases", _LEAST, 5000),
    Promise("contract", "server errors", "server_errors", _MOST, 0),
    Promise("contract", "undocumented answers", "undocumented", _MOST, 0),
    Promise("contract", "requests let in without credentials", "let_in", _MOST, 0),
    Promise("access", "wrong credentials asked with", "asked", _LEAST, 100),
    Promise("access", "of them let in", "let_in", _MOST, 0),
    Promise("access", "good credentials refused", "good_credentials_refused", _MOST, 0),
    Promise("faults", "kinds of faults", "kinds", _LEAST, 25),
    Promise("faults", "requests under each", "repeats", _LEAST, 100),
    Promise("faults", "neither right nor the right error", "wrong", _MOST, 0),
    Promise("faults", "answers of another client", "mixed_up", _MOST, 0),
    Promise("faults", "slowest recovery", "slowest_recovery_seconds", _MOST, 5, "s"),
    Promise("kills", "SIGKILLs with jobs running", "kills", _LEAST, 500),
    Promise("kills", "jobs lost", "jobs_lost", _MOST, 0),
    Promise("kills", "items lost", "items_lost", _MOST, 0),
    Promise("kills", "jobs done twice", "jobs_double", _MOST, 0),
    Promise("kills", "answers that changed", "answers_changed", _MOST, 0),
    Promise("load", "seconds at the rated load", "rated_seconds", _LEAST, 600, "s"),
    Promise("load", "share of errors", "rated_errors", _MOST, 0.001),
    Promise("load", "overhead beyond the backend, p50", "overhead_ms_p50", _MOST, 5, "ms"),
    Promise("load", "overhead beyond the backend, p99", "overhead_ms_p99", _MOST, 30, "ms"),
    Promise("load", "memory growth", "memory_mib_per_hour", _BELOW, 1, "MiB/h"),
    Promise("load", "at 4x: time of a refusal, p99", "refused_ms_p99", _MOST, 50, "ms"),
    Promise("load", "at 4x: accepted p99 / rated p99", "accepted_p99_over_rated", _MOST, 1.5),
    Promise("aborts", "clients that went away", "clients", _LEAST, 1000),
    Promise("aborts", "slowest time to a free vLLM", "slowest_free_seconds", _MOST, 2, "s"),
)


def rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """The table, line by line, as `HEAD` says."""
    for promise in PROMISES:
        value = promise.measured(figures)
        shown = "not measured" if value is None else _number(value, promise.unit)
        bound = f"{promise.bound} {_number(promise.limit, promise.unit)}"
        holds = "yes" if promise.holds(figures) else "no"
        yield promise.section, promise.words, shown, bound, holds


def on_screen(figures: Mapping[str, Any]) -> Table:
    """For a terminal."""
    table = Table(*HEAD)
    for row in rows(figures):
        table.add_row(*row)
    return table


def in_markdown(figures: Mapping[str, Any]) -> str:
    """For the document, between its marks."""
    lines = [HEAD, tuple("---" for _ in HEAD), *rows(figures)]
    return "\n".join([BEGIN, *(f"| {' | '.join(line)} |" for line in lines), END])


def write_into(document: Path, figures: Mapping[str, Any]) -> None:
    """Replace the table of a document by that of the figures."""
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    document.write_text(before + in_markdown(figures) + rest.split(END)[1], encoding="utf-8")


def _number(value: float, unit: str) -> str:
    shown = f"{value:,.0f}" if value == int(value) else f"{value:,g}"
    return f"{shown} {unit}".rstrip()
