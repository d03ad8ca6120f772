"""A report is written of what the model itself has answered, where it was taught that."""

from dataclasses import replace

import pytest
from tests.checkpoints import build_checkpoint
from tests.pictures import png

from llmcxr_models.checkpoint import Checkpoint, read_manifest, write_manifest

FINDINGS = ("normal", "cardiomegaly", "pleural effusion")
STATED_FROM = {"pleural effusion": 1e-6, "cardiomegaly": 1.0}
"""One is stated of every radiograph, and one of hardly any."""


def with_thresholds(path, stated_from):
    build_checkpoint(path)
    manifest = replace(read_manifest(path), findings=FINDINGS, stated_from=stated_from)
    write_manifest(path, manifest)
    return path


@pytest.fixture
def checkpoint_path(tmp_path):
    return with_thresholds(tmp_path / "checkpoint", STATED_FROM)


@pytest.fixture
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def report(gateway, **fields):
    return await gateway.client.post("/generate-report", files={"file": ("r", png())}, data=fields)


def prompt_of(gateway, checkpoint):
    """The last report's prompt behind its image, as text."""
    vocabulary, ids = checkpoint.manifest.vocabulary, gateway.vllm.requests[-1]["prompt"]
    words = [i for i in ids if i not in vocabulary.image_token_ids]
    return checkpoint.load_tokenizer().decode(words)


async def test_the_prompt_states_what_was_answered(gateway, checkpoint):
    answer = (await report(gateway)).json()
    assert answer["stated"] == ["pleural effusion"]
    assert "Findings to report: pleural effusion." in prompt_of(gateway, checkpoint)
    assert len(gateway.vllm.requests) == 3  # what is stated costs no further question


async def test_beside_an_indication(gateway, checkpoint):
    await report(gateway, indication="Chest pain")
    text = prompt_of(gateway, checkpoint)
    assert text.index("Findings to report") < text.index("Indication: Chest pain")


async def test_nothing_found_is_stated_too(start_gateway, tmp_path, vllm):
    path = with_thresholds(tmp_path / "other", {"cardiomegaly": 1.0})
    other = Checkpoint.open(path)
    vllm.served_name = other.manifest.served_name
    async with start_gateway(checkpoint=path) as gateway:
        assert (await report(gateway)).json()["stated"] == []
        assert "Findings to report: none." in prompt_of(gateway, other)
        assert (await gateway.client.get("/model")).json()["stated_from"] == {"cardiomegaly": 1.0}


async def test_all_drafts_are_of_the_same_statement(gateway):
    answer = (await report(gateway, n="3", temperature="0.7")).json()
    assert answer["stated"] == ["pleural effusion"]
    drafts = gateway.vllm.requests[2:]
    assert len(drafts) == 3
    assert len({tuple(request["prompt"]) for request in drafts}) == 1


async def test_a_checkpoint_that_was_not_taught_it(start_gateway, tmp_path, vllm):
    path = with_thresholds(tmp_path / "other", {})
    other = Checkpoint.open(path)
    assert "stated_from" not in other.manifest.to_dict()  # older checkpoints keep their digest
    vllm.served_name = other.manifest.served_name
    async with start_gateway(checkpoint=path) as gateway:
        assert (await report(gateway)).json()["stated"] is None
        assert "Findings to report" not in prompt_of(gateway, other)
