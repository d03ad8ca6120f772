"""POST /generate-image with `best_of`: the image that the checkpoint's own judge likes most."""

import base64
import io
import json

import httpx
import pydicom
import pytest
from PIL import Image
from tests.checkpoints import build_checkpoint
from tests.judges import SMALL, drawn_judge, with_judge
from tests.service.conftest import serve
from typer.testing import CliRunner

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.__main__ import app as cli
from llmcxr_service.app import create_app
from llmcxr_service.client import AsyncClient
from llmcxr_service.schemas import ImageRequest

REPORT = "Findings: The heart is enlarged. Impression: Cardiomegaly."
ASKED = {"report": REPORT, "seed": 4294967294, "best_of": 4}
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build_checkpoint(tmp_path_factory.mktemp("plain") / "tiny")


@pytest.fixture(scope="module")
def checkpoint_path(plain, tmp_path_factory):
    return with_judge(plain, tmp_path_factory.mktemp("judged") / "tiny", drawn_judge())


@pytest.fixture(scope="module")
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def ask(gateway, accept="application/json", **options):
    return await gateway.client.post(
        "/generate-image", json=ASKED | options, headers={"Accept": accept}
    )


async def test_the_best_is_answered_with_all_that_were_judged(gateway):
    answer = (await ask(gateway)).json()
    candidates = answer["candidates"]
    assert [c["seed"] for c in candidates] == [4294967294, 4294967295, 0, 1]
    (chosen,) = [c for c in candidates if c["chosen"]]
    assert chosen["agreement"] == max(c["agreement"] for c in candidates)
    assert len({c["agreement"] for c in candidates}) == 4
    assert all(c["scores"].keys() == set(SMALL.findings) for c in candidates)
    (image,) = answer["images"]
    assert image["seed"] == answer["seed"] == chosen["seed"]
    assert image["mean_log_probability"] == chosen["mean_log_probability"] < 0
    assert answer["prompt_findings"] == {
        "present": ["Cardiomegaly"],
        "absent": ["No Finding", "Pleural Effusion"],
        "left_open": [],
        "unseen": [],
    }
    assert answer["usage"]["completion_tokens"] == 4 * len(image["codes"])
    assert "judge" in answer["timings_ms"]


async def test_the_same_again_and_the_chosen_one_alone(gateway):
    answer, again = (await ask(gateway)).json(), (await ask(gateway)).json()
    answer.pop("timings_ms"), again.pop("timings_ms")
    assert answer == again
    alone = (await ask(gateway, seed=answer["seed"], best_of=1)).json()
    assert alone["images"][0]["codes"] == answer["images"][0]["codes"]
    assert (alone["candidates"], alone["prompt_findings"]) == ([], None)
    assert "judge" not in alone["timings_ms"]


async def test_another_prompt_may_pick_another_image(gateway):
    report = "Heart size is normal. No acute disease."
    normal = (await ask(gateway, report=report)).json()
    assert normal["prompt_findings"]["present"] == ["No Finding"]
    for candidate in normal["candidates"]:
        scores = candidate["scores"]
        others = (2 - scores["Cardiomegaly"] - scores["Pleural Effusion"]) / 2
        assert candidate["agreement"] == pytest.approx(
            (scores["No Finding"] + others) / 2, abs=2e-6
        )


async def test_pictures_say_that_they_were_picked(gateway):
    answer = (await ask(gateway)).json()
    png = await ask(gateway, accept="image/png")
    assert png.headers["x-seed"] == str(answer["seed"])
    assert png.headers["x-candidates"] == "4"
    (chosen,) = [c for c in answer["candidates"] if c["chosen"]]
    assert float(png.headers["x-judge-agreement"]) == pytest.approx(chosen["agreement"], abs=1e-6)
    image = Image.open(io.BytesIO(png.content))
    assert image.text["Seed"] == str(answer["seed"])
    assert "picked from 4" in image.text["Sampling"]
    assert base64.b64decode(answer["images"][0]["png_base64"]) == png.content
    dicom = await ask(gateway, accept="application/dicom")
    dataset = pydicom.dcmread(io.BytesIO(dicom.content))
    assert f"seed {answer['seed']}," in dataset.ImageComments
    assert "picked from 4" in dataset.ImageComments


async def test_a_stream_tells_of_all_and_brings_one(gateway):
    answer = (await ask(gateway)).json()
    response = await ask(gateway, accept="text/event-stream")
    events = [
        (block.split("\n")[0].removeprefix("event: "), json.loads(block.split("data: ")[1]))
        for block in response.text.split("\n\n")
        if block.startswith("event: ")
    ]
    assert {data["image"] for name, data in events if name == "progress"} == {0, 1, 2, 3}
    ((_, image),) = [event for event in events if event[0] == "image"]
    assert image["codes"] == answer["images"][0]["codes"]
    name, done = events[-1]
    assert name == "done"
    assert done["candidates"][image["image"]]["chosen"] is True
    assert done["candidates"] == answer["candidates"]


@pytest.mark.parametrize(
    "options", [{"n": 2}, {"best_of": 9}, {"best_of": 0}, {"temperature": 0.0}]
)
async def test_refused(gateway, options):
    response = await ask(gateway, **options)
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/invalid-request"
    assert gateway.vllm.requests == []


async def test_a_checkpoint_without_a_judge_cannot_pick(start_gateway, plain, vllm):
    vllm.served_name = Checkpoint.open(plain).manifest.served_name
    async with start_gateway(checkpoint=plain) as gateway:
        response = await ask(gateway)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert (problem["type"], problem["reason"]) == ("/problems/no-judge", "no-judge")
        assert gateway.vllm.requests == []
        assert (await gateway.client.get("/model")).json()["judge"] == []
        assert (await ask(gateway, best_of=1)).status_code == 200


async def test_a_doubt_is_a_warning(gateway):
    answer = (await ask(gateway, report="Large left pneumothorax.")).json()
    assert answer["prompt_findings"]["unseen"] == ["Pneumothorax"]
    assert any("Pneumothorax" in warning for warning in answer["warnings"])


def test_by_the_command(make_settings, vllm, tmp_path):
    target = tmp_path / "out.png"
    app = create_app(make_settings(), transport=httpx.ASGITransport(vllm.app()))
    with serve(app) as url:
        call = ["image", REPORT, "-o", str(target), "--seed", "1", "--best-of", "3", "--url", url]
        result = CliRunner().invoke(cli, call)
    assert result.exit_code == 0, result.output
    assert result.output.count("agreement 0.") == 3
    assert result.output.count("picked") == 1
    assert "picked from 3" in Image.open(target).text["Sampling"]


async def test_by_the_client(gateway):
    transport = gateway.client._transport
    async with AsyncClient("http://gateway", transport=transport) as client:
        answer = await client.image(ImageRequest(**ASKED))
    assert sum(candidate.chosen for candidate in answer.candidates) == 1
    assert (await gateway.client.get("/model")).json()["judge"] == list(SMALL.findings)
