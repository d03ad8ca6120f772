"""The example of a gateway that receives fits the product and the compose file that it extends."""

from __future__ import annotations

from pathlib import Path

import yaml

from llmcxr_service.intake_dicom.listening import check_receiving
from llmcxr_service.settings import Settings, unknown_variables

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "receiving"
GATEWAY = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text())["services"]["gateway"]


def test_settings_are_ours_and_the_files_can_be_used() -> None:
    assert unknown_variables(GATEWAY["environment"]) == []
    check_receiving(
        Settings(
            dicom_rules=EXAMPLE / "rules.toml",
            destinations=EXAMPLE / "destinations.toml",
            dicom_port=11112,
            dicom_calling_ae_titles="ROUTER",
        )
    )


def test_what_is_mounted_exists_and_is_named_in_the_settings() -> None:
    for mount in GATEWAY["volumes"]:
        source, target = mount.split(":")[:2]
        if source.startswith("."):
            assert (ROOT / source).exists()
        assert target in GATEWAY["environment"].values()


def test_the_port_is_published_on_loopback_unless_told_otherwise() -> None:
    assert GATEWAY["ports"] == ["${LLMCXR_DICOM_PUBLISH:-127.0.0.1:11112}:11112"]
