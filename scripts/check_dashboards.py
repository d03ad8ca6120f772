"""Whether every panel of every dashboard has data, with a real Prometheus and a gateway under load.

    python scripts/check_dashboards.py                    a scripted vLLM, about two minutes
    python scripts/check_dashboards.py --real             a real vLLM
    python scripts/check_dashboards.py --pictures DIR     and draw them, one PNG each

Needs Debian's package prometheus. Prints a table; status 1 where a panel is empty that should not
be. Panels of vLLM's own metrics have data with a real one only. `--vllm-names FILE` writes names
and labels of what a real vLLM shows, which tests compare the dashboards with.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from dashboard_json import Dashboard, Panel, Query  # noqa: E402
from dashboard_load import Load, hospital_site  # noqa: E402
from dashboard_pictures import Drawn, draw  # noqa: E402
from make_dashboards import DASHBOARDS  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from real_prometheus import Prometheus, Series, prometheus  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

STEP = 2
_FEWEST_ROUNDS = 3
"""A counter that begins at its first value has a rate from its second one on."""
_SETTLE_SECONDS = 20.0
"""After the load: evaluations of rules, looks at the queue, deliveries."""


def main() -> int:
    """Run it; status 1 where a panel is empty that should not be."""
    arguments = _arguments()
    # What was started is to be ended, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if shutil.which("prometheus") is None:
        print("There is no program `prometheus`; Debian's package has it.")
        return 2
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with hospital_site(directory, real=arguments.real) as site:
            targets = {"llmcxr": urlsplit(site.gateway).netloc, "vllm": urlsplit(site.vllm).netloc}
            with prometheus(directory, targets, STEP) as asked:
                start, load = time.time(), Load(site)
                rounds = 0
                while rounds < _FEWEST_ROUNDS or time.time() - start < arguments.seconds:
                    load.round(3 * rounds)
                    rounds += 1
                time.sleep(_SETTLE_SECONDS)
                load.close()
                data = {d.uid: _ask(asked, d, start, time.time()) for d in DASHBOARDS}
                firing = asked.firing()
            if arguments.vllm_names:
                arguments.vllm_names.write_text(names_of(httpx.get(f"{site.vllm}/metrics").text))
    empty = _report(data, real=arguments.real)
    print(f"{load.requests} requests in {rounds} rounds; alerts that fire: {firing or 'none'}")
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        for dashboard in DASHBOARDS:
            draw(dashboard, data[dashboard.uid], arguments.pictures / f"{dashboard.uid}.png")
    return int(empty)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--real", action="store_true", help="a real vLLM")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--pictures", type=Path, help="directory for PNGs")
    parser.add_argument("--vllm-names", type=Path, help="file for names of vLLM's metrics")
    return parser.parse_args()


def _ask(
    asked: Prometheus, dashboard: Dashboard, start: float, end: float
) -> dict[str, list[tuple[str, Series]]]:
    return {
        f"{row.title} / {panel.title}": [
            (_legend(query, series), series)
            for query in panel.queries
            for series in asked.range(query.expr, start, end, STEP)
        ]
        for row in dashboard.rows
        for panel in row.panels
    }


def _legend(query: Query, series: Series) -> str:
    text = query.legend or "{{" + "}} {{".join(series.labels) + "}}"
    return re.sub(r"\{\{(\w*)\}\}", lambda found: series.labels.get(found[1], ""), text) or "value"


def _report(data: dict[str, dict[str, list[tuple[str, Series]]]], *, real: bool) -> bool:
    """Print the table; whether a panel is empty that should not be."""
    table = Table("dashboard", "row / panel", "series", "points", "", title="Panels")
    wrong = False
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row.panels:
                found = data[dashboard.uid][f"{row.title} / {panel.title}"]
                points = sum(len(series.points) for _, series in found)
                verdict = _verdict(panel, found, real=real)
                wrong |= verdict == "EMPTY"
                place = f"{row.title} / {panel.title}"
                table.add_row(dashboard.uid, place, str(len(found)), str(points), verdict)
    Console(width=140).print(table)
    return wrong


def _verdict(panel: Panel, found: Drawn, *, real: bool) -> str:
    if any(series.points for _, series in found):
        return "data"
    if panel.quiet:
        return "quiet"
    vllms_own = all("vllm:" in query.expr or 'job="vllm"' in query.expr for query in panel.queries)
    return "needs a real vLLM" if vllms_own and not real else "EMPTY"


def names_of(text: str) -> str:
    """Sample names with the names of their labels, a line each, of a /metrics."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    lines = [f"{name} {','.join(sorted(labels[name]))}".strip() for name in sorted(labels)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
