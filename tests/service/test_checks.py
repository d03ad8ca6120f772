"""`llmcxr check`: what is wrong, in sentences, and a status."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes import FakeVllm
from tests.service.conftest import serve
from typer.testing import CliRunner

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.__main__ import app as cli
from llmcxr_service.checks import (
    Level,
    check_checkpoint,
    check_port,
    check_python,
    check_torch,
    check_torchvision,
    check_vllm_url,
)
from llmcxr_service.settings import Settings

MakeSettings = Callable[..., Settings]


def test_this_environment_is_sound(make_settings: MakeSettings) -> None:
    settings = make_settings()
    for look in (check_python, check_torch, check_torchvision, check_checkpoint):
        assert look(settings).level is Level.GOOD


def test_no_checkpoint(make_settings: MakeSettings, tmp_path: Path) -> None:
    finding = check_checkpoint(make_settings(checkpoint=tmp_path / "none"))
    assert finding.level is Level.WRONG
    assert "make setup" in finding.sentence


def test_another_file_than_the_manifest_names(
    make_settings: MakeSettings, checkpoint_path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint_path, copy)
    (copy / "llm" / "config.json").write_text("{}")
    finding = check_checkpoint(make_settings(checkpoint=copy))
    assert finding.level is Level.WRONG
    assert "llm/config.json" in finding.sentence


def test_taken_port(make_settings: MakeSettings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert check_port(make_settings(port=port)).level is Level.DOUBT
    assert check_port(make_settings(port=port)).level is Level.GOOD


def test_vllm_by_url(make_settings: MakeSettings, vllm: FakeVllm) -> None:
    with serve(vllm.app()) as url:
        assert check_vllm_url(make_settings(vllm_url=url)).level is Level.GOOD


def test_vllm_by_url_serves_another_model(
    make_settings: MakeSettings, checkpoint: Checkpoint
) -> None:
    other = FakeVllm("another", checkpoint.manifest.vocabulary.size, max_model_len=400)
    with serve(other.app()) as url:
        finding = check_vllm_url(make_settings(vllm_url=url))
    assert finding.level is Level.WRONG
    assert checkpoint.manifest.served_name in finding.sentence


def test_vllm_by_url_is_not_there(make_settings: MakeSettings) -> None:
    finding = check_vllm_url(make_settings(vllm_url="http://127.0.0.1:9"))
    assert finding.level is Level.WRONG


def test_command_ends_with_1_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMCXR_CHECKPOINT", str(tmp_path))
    monkeypatch.setenv("LLMCXR_VLLM_URL", "http://127.0.0.1:9")
    result = CliRunner().invoke(cli, ["check"])
    assert result.exit_code == 1
    assert "WRONG" in result.output


def test_misspelt_setting_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCXR_PROT", "80")
    result = CliRunner().invoke(cli, ["check"])
    assert result.exit_code == 2
    assert "LLMCXR_PROT" in result.output
