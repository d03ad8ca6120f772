"""Plots of an evaluation as SVG. No plot reads a file or keeps a state."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from llmcxr_training.metrics.intervals import Interval

# Okabe and Ito's colours can be told apart by the colour-blind.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8a8a"

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "llmcxr",
}
_COLUMNS = 4
_WIDTH = 9.6
"""Of a plot that has no natural width, inches."""

Curves = Mapping[str, Mapping[str, Any]]
"""By finding, as `tables.json` has them."""


def roc_plot(curves: Curves, kinds: Sequence[tuple[str, str, str]]) -> str:
    """ROC curves, one panel a finding.

    Args:
        curves: with `false_positive_rate` and `true_positive_rate` under each kind.
        kinds: key, label and colour of each line in a panel.
    """

    def panel(axes: Axes, curve: Mapping[str, Any]) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for key, label, colour in kinds:
            line = curve[key]
            axes.plot(
                line["false_positive_rate"],
                line["true_positive_rate"],
                color=colour,
                linewidth=1.4,
                label=label,
            )
        _square(axes, "false positive rate", "true positive rate")
        if len(kinds) > 1:
            axes.legend(frameon=False, loc="lower right", fontsize=7)

    return _panels(curves, panel)


def reliability_plot(curves: Curves) -> str:
    """Observed against stated frequency, one panel a finding; larger dots are more images."""

    def panel(axes: Axes, curve: Mapping[str, Any]) -> None:
        points = curve["reliability"]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(points["stated"], points["observed"], color=BLUE, linewidth=1.0)
        largest = max(points["counts"])
        sizes = [8 + 60 * count / largest for count in points["counts"]]
        axes.scatter(points["stated"], points["observed"], s=sizes, color=BLUE)
        _square(axes, "stated probability", "observed share")

    return _panels(curves, panel)


def label_plot(labels: Sequence[Mapping[str, Any]]) -> str:
    """How many real and written reports affirm each observation."""
    rows = [row for row in labels if row["real"] or row["written"]]
    with _figure(_WIDTH, 0.6 + 0.34 * max(1, len(rows))) as (figure, svg):
        axes = figure.subplots()
        for place, row in enumerate(rows):
            axes.barh(place - 0.2, row["real"], 0.36, color=GREY)
            axes.barh(place + 0.2, row["written"], 0.36, color="#a9cfe6")
            axes.barh(place + 0.2, row["both"], 0.36, color=BLUE)
        axes.set_yticks(range(len(rows)), [str(row["finding"]) for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("reports")
        handles = [axes.barh(0, 0, color=colour) for colour in (GREY, "#a9cfe6", BLUE)]
        names = ["real", "written, wrongly", "written, rightly"]
        axes.legend(handles, names, frameon=False, loc="lower right")
    return svg()


def length_plot(words: Mapping[str, Sequence[float]]) -> str:
    """Histogram of the words in real and written reports."""
    with _figure(_WIDTH, 2.4) as (figure, svg):
        axes = figure.subplots()
        for name, colour in (("real", GREY), ("written", BLUE)):
            axes.stairs(words[name], words["edges"], fill=True, alpha=0.45, color=colour)
            axes.stairs(words[name], words["edges"], color=colour, linewidth=1.2, label=name)
        axes.set_xlabel("words")
        axes.set_ylabel("reports")
        axes.legend(frameon=False)
    return svg()


def interval_plot(groups: Sequence[tuple[str, Sequence[tuple[str, Interval]]]]) -> str:
    """Values with their intervals, one panel a figure; the first of each is the model's.

    Args:
        groups: title, and what is compared by label.
    """
    columns = min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    tallest = max(len(entries) for _, entries in groups)
    with _figure(_WIDTH, lines * (0.75 + 0.24 * tallest)) as (figure, svg):
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (title, entries) in zip(grid, groups, strict=False):
            for place, (_, interval) in enumerate(entries):
                _interval(axes, place, interval, BLUE if place == 0 else GREY)
            axes.set_yticks(range(len(entries)), [label for label, _ in entries])
            axes.set_ylim(len(entries) - 0.5, -0.5)
            axes.set_title(title, loc="left")
        for axes in grid[len(groups) :]:
            axes.set_visible(False)
    return svg()


def difference_plot(rows: Sequence[tuple[str, Interval, bool]]) -> str:
    """Differences with their intervals around zero; significant ones are in colour."""
    with _figure(_WIDTH, 0.7 + 0.24 * max(1, len(rows))) as (figure, svg):
        axes = figure.subplots()
        axes.axvline(0.0, color=GREY, linewidth=0.8)
        for place, (_, interval, significant) in enumerate(rows):
            _interval(axes, place, interval, ORANGE if significant else GREY)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("second minus first, in units of the first's figure")
    return svg()


def _interval(axes: Axes, place: int, interval: Interval, colour: str) -> None:
    if math.isfinite(interval.low) and math.isfinite(interval.high):
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.0)
    axes.plot([interval.value], [place], "o", color=colour, markersize=5)


def _panels(curves: Curves, panel: Callable[[Axes, Mapping[str, Any]], None]) -> str:
    columns = min(_COLUMNS, max(1, len(curves)))
    lines = math.ceil(len(curves) / columns)
    with _figure(2.4 * columns, 2.7 * lines) as (figure, svg):
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (finding, curve) in zip(grid, curves.items(), strict=False):
            panel(axes, curve)
            axes.set_title(f"{finding} ({curve['positives']} of {curve['known']})")
        for axes in grid[len(curves) :]:
            axes.set_visible(False)
    return svg()


def _square(axes: Axes, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Callable[[], str]]]:
    """A figure of inches, and what gives its SVG after the block."""
    written = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, written.getvalue
        figure.savefig(written, format="svg", metadata={"Date": None})
