"""Ready means: vLLM answers, and serves exactly this checkpoint."""

import asyncio
import shutil

import pytest
from tests.pictures import png

from llmcxr_models.errors import DigestMismatch


async def test_alive_and_ready(gateway):
    assert (await gateway.client.get("/health/live")).json() == {"status": "alive"}
    assert (await gateway.client.get("/health/ready")).json() == {"status": "ready"}
    assert await gateway.metric("llmcxr_vllm_up") == 1


async def assert_not_ready(gateway, word):
    live = await gateway.client.get("/health/live")
    assert live.status_code == 200
    ready = await gateway.client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.headers["content-type"] == "application/problem+json"
    assert int(ready.headers["retry-after"]) > 0
    assert word in " ".join(ready.json()["reasons"])
    assert await gateway.metric("llmcxr_vllm_up") == 0
    refused = await gateway.client.post("/generate-image", json={"report": "Clear."})
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/generator-unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert not gateway.vllm.requests


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"up": False}, "status 503"),
        ({"api_key": "another"}, "status 401"),
        ({"served_name": "other"}, "another model"),
        ({"max_model_len": 100}, "shorter"),
        ({"max_model_len": None}, "shorter"),
        ({"max_model_len": "many"}, "cannot be read"),
    ],
)
async def test_not_ready(start_gateway, vllm, changes, word):
    for name, value in changes.items():
        setattr(vllm, name, value)
    async with start_gateway() as gateway:
        await assert_not_ready(gateway, word)


async def test_ready_as_soon_as_vllm_is(start_gateway, vllm):
    vllm.up = False
    async with start_gateway() as gateway:
        assert (await gateway.client.get("/health/ready")).status_code == 503
        vllm.up = True
        await asyncio.sleep(0.3)  # a look is shared for a quarter of a second
        response = await gateway.client.post("/generate-image", json={"report": "Clear."})
        assert response.status_code == 200


async def test_the_key_is_used(start_gateway, vllm):
    vllm.api_key = "k"
    async with start_gateway(vllm_api_key="k") as gateway:
        assert (await gateway.client.get("/health/ready")).status_code == 200
        response = await gateway.client.post("/generate-image", json={"report": "Clear."})
        assert response.status_code == 200


async def test_reconstruction_needs_no_vllm(start_gateway, vllm):
    vllm.up = False
    async with start_gateway() as gateway:
        response = await gateway.client.post(
            "/reconstruct", content=png(), headers={"Content-Type": "image/png"}
        )
        assert response.status_code == 200


async def test_model_is_described(gateway, checkpoint):
    answer = (await gateway.client.get("/model")).json()
    manifest = checkpoint.manifest
    assert answer["digest"] == manifest.digest
    assert answer["served_name"] == manifest.served_name
    assert answer["image_tokens"] == manifest.vocabulary.image_length
    assert answer["files"] == manifest.files


async def test_a_damaged_checkpoint_stops_the_start(start_gateway, checkpoint_path, tmp_path):
    broken = shutil.copytree(checkpoint_path, tmp_path / "broken")
    (broken / "llm" / "config.json").write_text("{}")
    with pytest.raises(DigestMismatch):
        async with start_gateway(checkpoint=broken):
            pass
    async with start_gateway(checkpoint=broken, verify_digests=False) as gateway:
        assert (await gateway.client.get("/health/ready")).status_code == 200
