"""POST /generate-image leans towards what its report affirms, where the checkpoint has tables."""

import asyncio
import io
import subprocess
import sys

import pydicom
import pytest
from PIL import Image
from tests.checkpoints import build_checkpoint
from tests.guidances import GUIDED, with_guidance
from tests.judges import drawn_judge, with_judge

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_alone import show_command, write_config

REPORT = "Findings: The heart is enlarged. Impression: Cardiomegaly."
ASKED = {"report": REPORT, "seed": 7}
PROCESSOR = "llmcxr_models.vllm_guidance:FindingGuidance"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build_checkpoint(tmp_path_factory.mktemp("plain") / "tiny")


@pytest.fixture(scope="module")
def checkpoint_path(plain, tmp_path_factory):
    return with_guidance(plain, tmp_path_factory.mktemp("guided") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def ask(gateway, accept="application/json", **options):
    return await gateway.client.post(
        "/generate-image", json=ASKED | options, headers={"Accept": accept}
    )


async def test_the_report_is_what_it_leans_towards(gateway):
    answer = (await ask(gateway)).json()
    assert answer["guidance"] == {"strength": 0.5, "towards": ["Cardiomegaly"]}
    sent = gateway.vllm.requests[-1]["vllm_xargs"]
    assert sent["guidance_strength"] == 0.5
    assert sent["finding_weights"] == pytest.approx([-0.6, 0.92, -0.05])


async def test_a_caller_says_how_strongly(gateway):
    guided, alone = (await ask(gateway)).json(), (await ask(gateway, guidance=0)).json()
    assert alone["guidance"] is None
    assert "vllm_xargs" not in gateway.vllm.requests[-1]
    assert alone["images"][0]["codes"] != guided["images"][0]["codes"]
    weakly = (await ask(gateway, guidance=0.2)).json()
    assert weakly["guidance"]["strength"] == 0.2


async def test_a_report_that_no_table_knows_is_drawn_by_the_model_alone(gateway):
    answer = (await ask(gateway, report="There is a nodule.")).json()
    assert answer["guidance"] is None
    assert "vllm_xargs" not in gateway.vllm.requests[-1]


@pytest.mark.parametrize("strength", [-0.1, 1.1, "strong", True])
async def test_no_strength(gateway, strength):
    assert (await ask(gateway, guidance=strength)).status_code == 422


async def test_every_kind_of_answer_says_it(gateway):
    png = await ask(gateway, "image/png")
    assert png.headers["x-guidance"] == "0.5"
    assert Image.open(io.BytesIO(png.content)).text["Sampling"].endswith("guided by 0.5.")
    alone = await ask(gateway, "image/png", guidance=0)
    assert "x-guidance" not in alone.headers
    assert "guided" not in Image.open(io.BytesIO(alone.content)).text["Sampling"]
    dicom = await ask(gateway, "application/dicom")
    assert "guided by 0.5" in pydicom.dcmread(io.BytesIO(dicom.content)).ImageComments
    events = await ask(gateway, "text/event-stream")
    assert '"towards":["Cardiomegaly"]' in events.text.replace(": ", ":")


async def test_reports_are_never_guided(gateway):
    asked = {"instruction": "Say that the heart is large."}
    assert (await gateway.client.post("/instruct", json=asked)).status_code == 200
    assert "vllm_xargs" not in gateway.vllm.requests[-1]


async def test_the_best_of_guided_images(start_gateway, checkpoint_path, tmp_path, vllm):
    both = with_judge(checkpoint_path, tmp_path / "both", drawn_judge())
    vllm.served_name = Checkpoint.open(both).manifest.served_name
    async with start_gateway(checkpoint=both) as gateway:
        answer = (await ask(gateway, best_of=3)).json()
        assert len(answer["candidates"]) == 3
        assert answer["guidance"]["towards"] == ["Cardiomegaly"]
        drawn = [r for r in gateway.vllm.requests if r["max_tokens"] > 1]
        assert all("vllm_xargs" in request for request in drawn)


async def test_a_server_without_the_processor_is_not_ready(start_gateway, vllm):
    vllm.guides = False
    async with start_gateway() as gateway:
        ready = await gateway.client.get("/health/ready")
        assert ready.status_code == 503
        assert "logits processor" in " ".join(ready.json()["reasons"])
        assert (await ask(gateway)).status_code == 503
        vllm.guides = True
        await asyncio.sleep(0.3)  # a look is shared for a quarter of a second
        assert (await ask(gateway)).status_code == 200


async def test_a_server_is_asked_once_while_it_is_there(start_gateway, vllm):
    async with start_gateway() as gateway:
        for _ in range(3):
            await gateway.client.get("/health/ready")
            await asyncio.sleep(0.3)
        assert len(vllm.requests) == 1
        vllm.up = False
        await gateway.client.get("/health/ready")
        await asyncio.sleep(0.3)
        vllm.up, vllm.guides = True, False
        assert (await gateway.client.get("/health/ready")).status_code == 503


async def test_the_model_says_what_it_can_lean_towards(gateway):
    assert (await gateway.client.get("/model")).json()["guidance"] == list(GUIDED.findings)


async def test_without_tables(start_gateway, plain, vllm):
    vllm.served_name, vllm.guides = Checkpoint.open(plain).manifest.served_name, False
    async with start_gateway(checkpoint=plain) as gateway:
        refused = await ask(gateway, guidance=0.5)
        assert refused.status_code == 422
        assert refused.json()["type"] == "/problems/no-guidance"
        assert not vllm.requests
        assert (await ask(gateway)).json()["guidance"] is None
        assert (await ask(gateway, guidance=0)).status_code == 200
        assert (await gateway.client.get("/model")).json()["guidance"] == []


def test_vllm_is_started_with_the_processor(checkpoint_path, plain):
    settings = {"vllm_kv_cache_gib": 0.5}
    shown = show_command(Settings(checkpoint=checkpoint_path, **settings), "127.0.0.1", 8000)
    assert f"--logits-processors {PROCESSOR}" in shown
    shown = show_command(Settings(checkpoint=plain, **settings), "127.0.0.1", 8000)
    assert "--logits-processors" not in shown


def test_a_vllm_without_us_gets_what_it_imports(checkpoint_path, plain, tmp_path):
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("vllm", reason="vLLM is not installed")
    write_config(Settings(checkpoint=plain), "127.0.0.1", 8000, tmp_path / "vllm.yaml")
    assert "logits-processors" not in yaml.safe_load((tmp_path / "vllm.yaml").read_text())
    assert not (tmp_path / "llmcxr_models").exists()
    write_config(Settings(checkpoint=checkpoint_path), "127.0.0.1", 8000, tmp_path / "vllm.yaml")
    config = yaml.safe_load((tmp_path / "vllm.yaml").read_text())
    assert config["logits-processors"] == [PROCESSOR]
    program = "import llmcxr_models.vllm_guidance as m; print(m.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / "llmcxr_models" / "vllm_guidance.py")
