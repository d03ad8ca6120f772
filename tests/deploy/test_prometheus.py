"""Rules, their tests and the runbook fit each other, and ask for metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.deploy.conftest import ROOT, Live
from tests.deploy.promql import metrics_in

DIRECTORY = ROOT / "deploy" / "prometheus"
GROUPS = [
    group
    for path in sorted((DIRECTORY / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)


def test_names_are_given_once() -> None:
    names = [rule.get("alert") or rule["record"] for rule in RULES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    paragraph = re.search(rf"^### {name}\n\n(.+?)(?=^#|\Z)", RUNBOOK, re.M | re.S)
    assert paragraph is not None
    assert len(paragraph[1].split()) >= 20


def test_the_runbook_knows_no_other_alerts() -> None:
    assert re.findall(r"^### (\w+)$", RUNBOOK, re.M) == list(
        dict.fromkeys(re.findall(r"^### (\w+)$", RUNBOOK, re.M))
    )
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.M)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_where_it_fires_and_where_it_does_not(name: str) -> None:
    expected = [
        bool(case["exp_alerts"])
        for path in (DIRECTORY / "tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]
    assert set(expected) == {True, False}


def test_rules_ask_for_what_exists(live: Live, vllm_names: set[str]) -> None:
    known = live.samples | vllm_names | RECORDED | {"up"}
    for rule in RULES:
        assert metrics_in(rule["expr"]) <= known, rule


def test_objectives_are_at_buckets_that_exist(live: Live) -> None:
    text = (DIRECTORY / "rules" / "recording.yml").read_text()
    bounds = set(re.findall(r'le="([\d.]+)"', text))
    assert bounds
    for bound in bounds:
        assert f'le="{bound}"' in live.text


@promtool
def test_promtool_takes_rules_and_configuration() -> None:
    rules = sorted(str(path) for path in (DIRECTORY / "rules").glob("*.yml"))
    _run("check", "rules", *rules)
    _run("check", "config", "--syntax-only", str(DIRECTORY / "prometheus.yml"))


@promtool
def test_promtool_finds_nothing_wrong_with_our_names(live: Live) -> None:
    command = ["promtool", "check", "metrics"]
    found = subprocess.run(command, input=live.text, text=True, capture_output=True, timeout=60)
    lines = [line for line in found.stderr.splitlines() if line.startswith("llmcxr")]
    assert lines == []


def _run(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout


def test_rule_files_are_where_the_configuration_looks() -> None:
    config = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())
    (pattern,) = config["rule_files"]
    assert sorted(DIRECTORY.glob(pattern)) == sorted(Path(DIRECTORY / "rules").iterdir())
