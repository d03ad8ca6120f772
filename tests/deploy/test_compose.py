"""Compose files and monitoring are valid, confined, and agree with the product and each other."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import compose_spec
import pytest
import yaml

from llmcxr_service.deliveries.destinations import Destinations
from llmcxr_service.settings import Settings, unknown_variables

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
RECEIVING = ROOT / "deploy" / "receiving"
ORTHANC = yaml.safe_load((RECEIVING / "orthanc.yml").read_text())
FILES = [ROOT / "docker-compose.yml", RECEIVING / "docker-compose.yml", RECEIVING / "orthanc.yml"]
ALL = {**SERVICES, "orthanc": ORTHANC["services"]["orthanc"]}
SECRETS = COMPOSE["secrets"] | ORTHANC["secrets"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_is_as_the_compose_specification_says(file: Path) -> None:
    # Read and written again: the library knows no merge keys (`<<`), which are YAML's business.
    merged = yaml.safe_dump(yaml.safe_load(_with_defaults(file.read_text())))
    compose_spec.PyCompose.from_yaml(merged).to_spec()


def test_only_the_gateway_publishes_a_port() -> None:
    assert [name for name, service in ALL.items() if "ports" in service] == ["gateway"]


def test_the_gateway_is_published_on_loopback_unless_told_otherwise() -> None:
    assert SERVICES["gateway"]["ports"] == ["${LLMCXR_PUBLISH:-127.0.0.1:8080}:8080"]
    assert Settings.model_fields["port"].default == 8080


@pytest.mark.parametrize("name", ALL)
def test_containers_are_confined(name: str) -> None:
    service = ALL[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    limits = service["deploy"]["resources"]["limits"]
    assert {"memory", "pids"} <= set(limits)
    # Only the one that copies files for somebody else is root.
    if name != "checkpoint":
        assert "cap_add" not in service
        assert not str(service.get("user", "1")).startswith("0")


@pytest.mark.parametrize("name", ALL)
def test_mounted_files_exist_and_volumes_are_declared(name: str) -> None:
    declared = {*COMPOSE["volumes"], *ORTHANC["volumes"]}
    for mount in ALL[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in declared


@pytest.mark.parametrize("name", ALL)
def test_networks_and_dependencies_are_declared(name: str) -> None:
    assert set(ALL[name]["networks"]) <= set(COMPOSE["networks"])
    assert set(ALL[name].get("depends_on", {})) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_settings_are_ours(name: str) -> None:
    assert unknown_variables(ALL[name].get("environment", {})) == []


@pytest.mark.parametrize("name", ALL)
def test_no_secret_is_in_the_environment(name: str) -> None:
    for variable in ALL[name].get("environment", {}):
        assert variable.endswith("__FILE") or not re.search("PASSWORD|API_KEY|TOKEN", variable)
    assert set(ALL[name].get("secrets", [])) <= set(SECRETS)


@pytest.mark.parametrize("name", ["gateway", "vllm-cpu"])
def test_our_settings_read_the_secrets_files(name: str) -> None:
    assert SERVICES[name]["environment"]["LLMCXR_SECRETS"] == "/run/secrets"
    assert unknown_variables(dict.fromkeys(SERVICES[name]["secrets"], "")) == []
    assert "llmcxr_vllm_api_key" in SERVICES[name]["secrets"]


def test_the_script_makes_every_secret_and_keeps_those_that_are_there(tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "secrets.sh"
    script.parent.mkdir()
    script.write_text((ROOT / "deploy" / "secrets.sh").read_text())
    made = []
    for _ in range(2):
        subprocess.run(["sh", script], check=True, capture_output=True)
        files = sorted((tmp_path / "secrets").iterdir())
        made.append({f"./secrets/{file.name}": file.read_text() for file in files})
    assert made[0] == made[1]
    wanted = {_with_defaults(secret["file"]) for secret in SECRETS.values()}
    assert set(made[0]) == wanted
    assert len(made[0]["./secrets/llmcxr_vllm_api_key"]) == 64
    users = json.loads(made[0]["./secrets/orthanc.secret.json"])["RegisteredUsers"]
    assert users == {"llmcxr": made[0]["./secrets/orthanc_password"]}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_who_needs_another_waits_until_it_is_healthy() -> None:
    needs = SERVICES["gateway"]["depends_on"]
    for name in ("vllm-cpu", "vllm-gpu"):
        # Only one of them runs, by the profile.
        assert needs[name] == {"condition": "service_healthy", "required": False}
    assert SERVICES["grafana"]["depends_on"]["prometheus"]["condition"] == "service_healthy"
    # Our own images have a check in the Dockerfile; others need one here.
    for name, service in ALL.items():
        if "build" not in service:
            assert "test" in service["healthcheck"], name


def test_the_gateway_has_time_to_drain() -> None:
    gateway = SERVICES["gateway"]
    finishing = float(gateway["environment"]["LLMCXR_DRAIN_SECONDS"])
    notice = Settings.model_fields["drain_notice_seconds"].default
    assert int(gateway["stop_grace_period"].removesuffix("s")) > notice + finishing


def test_images_are_pinned_and_vllm_is_the_locked_version() -> None:
    locked = re.search(r"^vllm-cpu==(\S+)$", (ROOT / "requirements/cpu.txt").read_text(), re.M)
    assert locked is not None
    assert SERVICES["vllm-gpu"]["image"] == f"vllm/vllm-openai:v{locked[1]}"
    images = [service["image"] for service in ALL.values() if "build" not in service]
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


def test_vllm_is_on_the_inner_network_only() -> None:
    for name in ("vllm-cpu", "vllm-gpu"):
        assert list(SERVICES[name]["networks"]) == ["back"]
        assert SERVICES[name]["networks"]["back"]["aliases"] == ["vllm"]
    assert COMPOSE["networks"]["back"]["internal"] is True


def test_results_go_to_the_orthanc_of_the_profile() -> None:
    # The password's file is in the container only, so it is not looked for here.
    written = tomllib.loads((RECEIVING / "destinations-orthanc.toml").read_text())
    (target,) = Destinations.model_validate(written).destinations
    assert (target.url.host, target.url.port) == ("orthanc", 8042)
    secret = Path(target.credentials.password_file).name
    assert secret in ORTHANC["services"]["gateway"]["secrets"]
    assert target.url.path == ALL["orthanc"]["environment"]["ORTHANC__DICOM_WEB__ROOT"].rstrip("/")


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


def test_the_file_of_keys_is_kept() -> None:
    gateway = SERVICES["gateway"]
    directory = str(Path(gateway["environment"]["LLMCXR_KEYS"]).parent)
    assert f"access:{directory}" in gateway["volumes"]


def _with_defaults(text: str) -> str:
    """What Docker puts in where nothing is set; a variable that must be set gets a word."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "SET", text)
