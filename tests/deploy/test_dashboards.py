"""Dashboards are what their generator writes, and ask for metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.conftest import ROOT, Live
from tests.deploy.promql import metrics_in
from tests.deploy.test_prometheus import RECORDED

DIRECTORY = ROOT / "deploy" / "grafana"
DASHBOARDS = {
    path.name: json.loads(path.read_text()) for path in (DIRECTORY / "dashboards").glob("*.json")
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]


def test_the_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "make_dashboards.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=120)
    written = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert written == DASHBOARDS


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_for_what_exists(
    panel: dict[str, Any], live: Live, vllm_names: set[str]
) -> None:
    known = live.samples | vllm_names | RECORDED | {"up", "ALERTS"}
    assert panel["targets"]
    for target in panel["targets"]:
        names = metrics_in(target["expr"])
        assert names
        assert names <= known


@pytest.mark.parametrize("panel", PANELS)
def test_labels_of_a_legend_are_kept_by_the_query(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = re.search(r"\b(?:by) \(([^)]*)\)", target["expr"])
        if kept is None:
            continue
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= set(kept[1].split(", "))


def test_panels_do_not_overlap_and_fit() -> None:
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells
            taken |= cells


def test_dashboards_are_provisioned_and_told_apart() -> None:
    sources = yaml.safe_load((DIRECTORY / "provisioning/datasources/prometheus.yml").read_text())
    uid = sources["datasources"][0]["uid"]
    for panel in (panel.values[0] for panel in PANELS):
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {uid}
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(DASHBOARDS) == 4
    assert {f"{uid}.json" for uid in uids} == set(DASHBOARDS)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)
def test_queries_are_promql(tmp_path: Path) -> None:
    """As rules, which promtool parses; its own command for queries is younger than Debian's."""
    queries = [target["expr"] for panel in PANELS for target in panel.values[0]["targets"]]
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(path)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
