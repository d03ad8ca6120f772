"""Dashboards as pictures: the same queries, drawn plainly. For looking at, not for Grafana."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dashboard_json import Dashboard, Kind, Panel
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from real_prometheus import Series

_COLUMNS = 3
Drawn = Sequence[tuple[str, Series]]
"""Legend and points."""


def draw(dashboard: Dashboard, data: Mapping[str, Drawn], path: Path) -> None:
    """Write one PNG.

    Args:
        dashboard: whose panels.
        data: what to draw, by the panel's title within its row: `row / title`.
        path: of the picture.
    """
    panels = [(row.title, panel) for row in dashboard.rows for panel in row.panels]
    lines = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(6 * _COLUMNS, 2.7 * lines), layout="constrained")
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    figure.suptitle(dashboard.title)
    axes = list(grid.flat)
    for (row, panel), axis in zip(panels, axes, strict=False):
        _draw_panel(panel, row, data[f"{row} / {panel.title}"], axis)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=60)


def _draw_panel(panel: Panel, row: str, drawn: Drawn, axis: Axes) -> None:
    axis.set_title(f"{row}: {panel.title}" + f" [{panel.unit}]", fontsize=9)
    axis.tick_params(labelsize=7)
    filled = [(legend, series) for legend, series in drawn if series.points]
    if not filled:
        axis.text(0.5, 0.5, "no data", ha="center", transform=axis.transAxes)
        return
    if panel.kind is not Kind.LINES:
        text = "\n".join(f"{legend}  {series.points[-1][1]:.4g}" for legend, series in filled)
        axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, fontsize=9)
        axis.set_axis_off()
        return
    start = min(series.points[0][0] for _, series in filled)
    for legend, series in filled:
        times = [when - start for when, _ in series.points]
        axis.plot(times, [value for _, value in series.points], label=legend, marker=".", ms=2)
    if len(filled) <= 14:
        axis.legend(fontsize=6, ncols=2)
