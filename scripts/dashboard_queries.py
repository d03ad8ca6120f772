"""PromQL that panels share. Windows are fixed: the recording rules have the same."""

from __future__ import annotations

from dashboard_json import Kind, Panel, Query

RATE = "5m"


def q(expr: str, legend: str = "") -> Query:
    """One query."""
    return Query(expr, legend)


def rate(metric: str, *by: str, where: str = "", window: str = RATE) -> Query:
    """A counter's growth per second, by labels."""
    return Query(f"{_sum(by)}(rate({metric}{_where(where)}[{window}]))", _legend(by))


def count(metric: str, *by: str, where: str = "", window: str = "1h") -> Query:
    """A counter's growth in a window, by labels."""
    return Query(f"{_sum(by)}(increase({metric}{_where(where)}[{window}]))", _legend(by))


def happened(metric: str, *by: str) -> Query:
    """As `count`, without what did not happen: for labels with many values."""
    return Query(f"{count(metric, *by).expr} > 0", _legend(by))


def share(part: str, whole: str, *by: str, legend: str = "", window: str = "1h") -> Query:
    """One counter's growth as a share of another's, by the same labels."""
    over = f"{_sum(by)}(increase({whole}[{window}]))"
    return Query(f"{_sum(by)}(increase({part}[{window}])) / {over}", legend or _legend(by))


def mean(histogram: str, *by: str, window: str = RATE) -> Query:
    """Mean of what a histogram observed."""
    total = f"{_sum(by)}(rate({histogram}_sum[{window}]))"
    return Query(f"{total} / {_sum(by)}(rate({histogram}_count[{window}]))", _legend(by))


def quantile(share: float, histogram: str, *by: str, where: str = "", legend: str = "") -> Query:
    """A quantile of what a histogram observed."""
    buckets = f"{_sum(('le', *by))}(rate({histogram}_bucket{_where(where)}[{RATE}]))"
    name = legend or " ".join(filter(None, (_legend(by), f"p{share * 100:g}")))
    return Query(f"histogram_quantile({share:g}, {buckets})", name)


def worst(metric: str, *by: str) -> Query:
    """The largest of what several replicas say of the same thing."""
    return Query(f"max by ({', '.join(by)}) ({metric})" if by else f"max({metric})", _legend(by))


def quantiles(histogram: str, title: str, description: str = "", where: str = "") -> Panel:
    """A panel with the median, the 95th and the 99th percentile of seconds."""
    shown = tuple(
        quantile(p, histogram, where=where, legend=f"p{p * 100:g}") for p in (0.5, 0.95, 0.99)
    )
    return Panel(title, shown, description, "s")


def number(title: str, expr: str, unit: str = "short", **changes: object) -> Panel:
    """A single value."""
    return Panel(title, (Query(expr),), unit=unit, kind=Kind.NUMBER, width=4, **changes)  # type: ignore[arg-type]


def _where(where: str) -> str:
    return f"{{{where}}}" if where else ""


def _sum(by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) " if by else "sum"


def _legend(by: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by)
