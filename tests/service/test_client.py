"""The client at a terminal, against a real server on loopback with a fake vLLM behind it."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.fakes import FakeVllm, Fault
from tests.service.conftest import serve
from typer.testing import CliRunner

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.__main__ import app as cli
from llmcxr_service.app import create_app
from llmcxr_service.client import (
    AsyncClient,
    Client,
    InvalidCall,
    NotAllowed,
    Observations,
    SectionText,
    ServiceAway,
    ServiceError,
    ServiceFailed,
    TryLater,
    UnreadableAnswer,
    read_key,
)
from llmcxr_service.schemas import (
    ImageRequest,
    InstructionRequest,
    QuestionOptions,
    ReportAnswer,
    ReportOptions,
    StreamMeta,
)
from llmcxr_service.settings import Settings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NOWHERE = "http://127.0.0.1:9"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.fixture
def written(checkpoint: Checkpoint) -> list[int]:
    """A report as token ids, with its ending."""
    text = "Findings: Größe normal. Impression: Nothing."
    stop = checkpoint.manifest.vocabulary.stop_token_ids[0]
    return [*checkpoint.load_tokenizer().encode_text(text), stop]


@pytest.fixture
def url(make_settings: Callable[..., Settings], vllm: FakeVllm) -> Iterator[str]:
    with serve(create_app(make_settings(), transport=httpx.ASGITransport(vllm.app()))) as address:
        yield address


@pytest.mark.parametrize(
    "name", ["example-patient.dcm", "cardiomegaly.png", "hannover-23823ebc.jpg"]
)
def test_report_of_every_sample(url: str, name: str) -> None:
    with Client(url) as client:
        answer = client.report(sample(name), ReportOptions(indication="cough", seed=3))
    assert answer.seed == 3
    assert answer.ai_generated is True
    assert answer.sampling.temperature == 0.0


def test_image_and_reconstruction(url: str) -> None:
    with Client(url) as client:
        drawn = client.image(ImageRequest(report="The lungs are clear.", seed=1, n=2))
        seen = client.reconstruct(sample("cardiomegaly.png"))
        assert client.not_ready() == []
    assert [image.seed for image in drawn.images] == [1, 2]
    assert Image.open(io.BytesIO(drawn.images[0].png)).size == (64, 64)
    assert drawn.images[0].mean_log_probability is not None
    assert Image.open(io.BytesIO(seen.png)).size == (64, 64)
    assert seen.psnr_db > 0


def test_question_and_instruction(url: str) -> None:
    with Client(url) as client:
        answer = client.question(
            sample("cardiomegaly.png"), QuestionOptions(question="Is there cardiomegaly?", seed=1)
        )
        response = client.instruct(InstructionRequest(instruction="Say something."))
    assert answer.seed == 1
    assert response.mean_log_probability is not None


def test_a_stream_ends_with_the_whole_report(url: str, vllm: FakeVllm, written: list[int]) -> None:
    vllm.answer = written
    with Client(url) as client:
        whole = client.report(sample("cardiomegaly.png"), ReportOptions(seed=3))
        meta, *parts, seen, last = client.report_stream(
            sample("cardiomegaly.png"), ReportOptions(seed=3)
        )
    assert isinstance(meta, StreamMeta)
    assert (meta.seed, meta.sampling) == (3, whole.sampling)
    assert isinstance(seen, Observations)
    assert isinstance(last, ReportAnswer)
    assert last.text == whole.text
    told = {"findings": "", "impression": ""}
    for part in parts:
        assert isinstance(part, SectionText)
        told[part.section] += part.text
    assert told == {"findings": whole.findings, "impression": whole.impression}
    assert told == {"findings": "Größe normal.", "impression": "Nothing."}


async def test_the_same_without_waiting(url: str, vllm: FakeVllm, written: list[int]) -> None:
    vllm.answer = written
    async with AsyncClient(url) as client:
        whole, image = await asyncio.gather(
            client.report(sample("cardiomegaly.png")),
            client.image(ImageRequest(report="Clear.", seed=5)),
        )
        events = [e async for e in client.report_stream(sample("cardiomegaly.png"))]
        answer = await client.question(sample("cardiomegaly.png"), QuestionOptions(question="Why?"))
        response = await client.instruct(InstructionRequest(instruction="Say something."))
        seen = await client.reconstruct(sample("cardiomegaly.png"))
    last = events[-1]
    assert isinstance(last, ReportAnswer)
    assert last.text == whole.text == answer.answer == response.response
    assert image.images[0].codes
    assert seen.codes


async def test_what_goes_wrong_before_the_stream_is_a_problem(url: str) -> None:
    with Client(url) as client, pytest.raises(InvalidCall, match=r"\(415\)"):
        next(client.report_stream(b"this is text"))
    async with AsyncClient(url) as client:
        with pytest.raises(InvalidCall, match=r"n: A stream of events has one draft"):
            async for _ in client.report_stream(
                sample("cardiomegaly.png"), ReportOptions(n=2, temperature=1.0)
            ):
                pass


def test_what_goes_wrong_in_the_stream_is_the_same_problem(
    url: str, vllm: FakeVllm, written: list[int]
) -> None:
    vllm.answer, vllm.token_seconds = written, 0.01
    vllm.faults.append(Fault.ERROR_EVENT)
    with Client(url) as client, pytest.raises(ServiceFailed) as caught:
        list(client.report_stream(sample("cardiomegaly.png")))
    assert caught.value.problem.status == 502
    assert caught.value.problem.request_id


def test_busy_says_when_to_come_back(url: str, vllm: FakeVllm) -> None:
    vllm.up = False
    with Client(url) as client:
        # What was looked at within the last second is not looked at again.
        deadline = time.monotonic() + 10
        while not client.not_ready() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.not_ready()
        with pytest.raises(TryLater) as caught:
            client.image(ImageRequest(report="Clear lungs."))
    assert caught.value.retry_after_seconds is not None
    assert caught.value.problem.status == 503


def test_refusal_is_a_sentence(url: str) -> None:
    with Client(url) as client, pytest.raises(InvalidCall, match=r"\(415\)") as caught:
        client.report(b"this is text")
    assert caught.value.problem.type == "/problems/unsupported-media"


def test_nobody_there() -> None:
    with Client(NOWHERE) as client:
        assert client.not_ready() is None
        with pytest.raises(ServiceAway, match="llmcxr serve"):
            client.image(ImageRequest(report="Clear lungs."))


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret-key\n")
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401, json={"title": "Unauthenticated", "status": 401, "type": "/x",
                                         "request_id": "1"})  # fmt: skip

    transport = httpx.MockTransport(answer)
    client = Client("http://x", key=read_key(file), transport=transport)
    with client, pytest.raises(NotAllowed):
        client.report(b"")
    assert seen == ["Bearer secret-key"]
    with pytest.raises(ServiceError, match="cannot be read"):
        read_key(tmp_path / "none")


def test_what_is_no_answer_of_the_service() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/instruct":
            return httpx.Response(200, text="<html>")
        if request.headers["Accept"] == "text/event-stream":
            return httpx.Response(200, text='event: findings\ndata: {"text": "a"}\n\n')
        return httpx.Response(404, text="<html>")

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(UnreadableAnswer):
            client.instruct(InstructionRequest(instruction="x"))
        with pytest.raises(UnreadableAnswer, match="404"):
            client.report(b"")
        with pytest.raises(UnreadableAnswer, match="no end"):
            list(client.report_stream(b""))


def test_report_command(url: str) -> None:
    sample = str(SAMPLES / "example-patient.dcm")
    result = CliRunner().invoke(cli, ["report", sample, "--url", url, "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert "research use only" in result.output


def test_report_command_with_several_drafts(url: str) -> None:
    call = ["report", str(SAMPLES / "cardiomegaly.png"), "--url", url, "--drafts", "3"]
    result = CliRunner().invoke(cli, [*call, "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert "Agreement of the 3 drafts:" in result.output
    assert "Mean log probability of a token: -" in result.output
    assert CliRunner().invoke(cli, [*call, "--temperature", "0"]).exit_code == 2


def test_a_checkpoint_without_a_judge_is_a_sentence(url: str, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    call = ["image", "Clear lungs.", "-o", str(target), "--url", url, "--best-of", "4"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 1
    assert "no judge" in result.output
    assert not target.exists()


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
