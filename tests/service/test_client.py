"""The client at a terminal, against a real server on loopback with a fake vLLM behind it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.fakes import FakeVllm
from tests.service.conftest import serve
from typer.testing import CliRunner

from llmcxr_service.__main__ import app as cli
from llmcxr_service.app import create_app
from llmcxr_service.client import Client, ServiceError
from llmcxr_service.settings import Settings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def url(make_settings: Callable[..., Settings], vllm: FakeVllm) -> Iterator[str]:
    with serve(create_app(make_settings(), transport=httpx.ASGITransport(vllm.app()))) as address:
        yield address


@pytest.mark.parametrize(
    "name", ["example-patient.dcm", "cardiomegaly.png", "hannover-23823ebc.jpg"]
)
def test_report_of_every_sample(url: str, name: str) -> None:
    with Client(url) as client:
        answer = client.report((SAMPLES / name).read_bytes(), indication="cough", seed=3)
    assert answer["seed"] == 3
    assert answer["ai_generated"] is True


def test_image_and_reconstruction(url: str) -> None:
    with Client(url) as client:
        drawn = client.image("The lungs are clear.", seed=1)
        seen = client.reconstruct((SAMPLES / "cardiomegaly.png").read_bytes())
        assert client.not_ready() == []
    assert Image.open(io.BytesIO(drawn.png)).size == (64, 64)
    assert drawn.answer["images"][0]["codes"]
    assert Image.open(io.BytesIO(seen.png)).size == (64, 64)
    assert seen.answer["psnr_db"] > 0


def test_refusal_is_a_sentence(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError, match=r"\(415\)"):
        client.report(b"this is text")


def test_nobody_there() -> None:
    with Client(NOWHERE) as client:
        assert client.not_ready() is None
        with pytest.raises(ServiceError, match="llmcxr serve"):
            client.image("Clear lungs.")


def test_report_command(url: str) -> None:
    sample = str(SAMPLES / "example-patient.dcm")
    result = CliRunner().invoke(cli, ["report", sample, "--url", url, "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert "research use only" in result.output


def test_image_command(url: str, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    result = CliRunner().invoke(cli, ["image", "Clear lungs.", "-o", str(target), "--url", url])
    assert result.exit_code == 0, result.output
    with Image.open(target) as picture:
        assert picture.size == (64, 64)


def test_command_without_service_is_a_sentence_and_status_1(tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    result = CliRunner().invoke(cli, ["image", "Clear.", "-o", str(target), "--url", NOWHERE])
    assert result.exit_code == 1
    assert "Nothing answers" in result.output
    assert not target.exists()
