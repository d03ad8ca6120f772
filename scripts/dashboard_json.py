"""Dashboards as values, and their Grafana JSON. Knows no metric.

A dashboard is rows of panels; a panel is queries drawn one way. Places are reckoned here, so that
adding a panel moves the others. Schema: Grafana's dashboard JSON, schema version 39.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
"""As deploy/grafana/provisioning/datasources names it."""
_GRID = 24
_HEIGHTS = {"stat": 4, "timeseries": 8, "table": 6}


class Kind(StrEnum):
    """How a panel draws."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """One expression.

    Attributes:
        expr: PromQL.
        legend: with `{{label}}` for labels; empty: all labels.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """Queries drawn one way.

    Attributes:
        title: short.
        queries: at least one.
        description: what a reader should know; empty where the title says it.
        unit: Grafana's id of a unit.
        kind: how it is drawn.
        width: of 24 columns.
        stacked: whether lines are added up.
        quiet: nothing is to be seen as long as nothing goes wrong.
        thresholds: from which value on a number is of which colour; the first is from below all.
    """

    title: str
    queries: tuple[Query, ...]
    description: str = ""
    unit: str = "short"
    kind: Kind = Kind.LINES
    width: int = 8
    stacked: bool = False
    quiet: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Rows.

    Attributes:
        uid: in URLs; also the file's name.
        title: for people.
        description: whom it is for.
        rows: from top to bottom.
        hours: that are shown at first.
    """

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    hours: int = field(default=3)

    @property
    def panels(self) -> Iterator[Panel]:
        """All, from top to bottom."""
        for row in self.rows:
            yield from row.panels

    def to_json(self) -> dict[str, Any]:
        """What Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["llmcxr"],
            "schemaVersion": 39,
            "version": 1,
            "editable": False,
            "refresh": "30s",
            "timezone": "browser",
            "time": {"from": f"now-{self.hours}h", "to": "now"},
            "links": [_links()],
            "panels": list(self._placed()),
        }

    def _placed(self) -> Iterator[dict[str, Any]]:
        number, y = 1, 0
        for row in self.rows:
            yield _row(number, row.title, y)
            number, y, x, height = number + 1, y + 1, 0, 0
            for panel in row.panels:
                if x + panel.width > _GRID:
                    x, y, height = 0, y + height, 0
                place = {"x": x, "y": y, "w": panel.width, "h": _HEIGHTS[panel.kind]}
                yield {"id": number, "gridPos": place, **_panel(panel)}
                number, x = number + 1, x + panel.width
                height = max(height, place["h"])
            y += height


def _links() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "LLM-CXR",
        "tags": ["llmcxr"],
        "asDropdown": False,
        "keepTime": True,
    }


def _row(number: int, title: str, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": _GRID, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": place,
        "panels": [],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.thresholds]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind is Kind.LINES:
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 20 if panel.stacked else 0
        defaults["custom"] = {"stacking": stacking, "fillOpacity": fill, "showPoints": "never"}
    return {
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [_target(i, query, panel.kind) for i, query in enumerate(panel.queries)],
    }


def _options(kind: Kind) -> dict[str, Any]:
    if kind is Kind.NUMBER:
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"}
    if kind is Kind.TABLE:
        return {"showHeader": True}
    legend = {"displayMode": "list", "placement": "bottom"}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


def _target(number: int, query: Query, kind: Kind) -> dict[str, Any]:
    target: dict[str, Any] = {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
    }
    if kind is Kind.TABLE:
        target |= {"format": "table", "instant": True}
    return target
