"""Observations of a report: one constrained step a finding, probabilities, contradictions."""

import math
from dataclasses import replace

import pytest
from tests.checkpoints import build_checkpoint
from tests.fakes import Fault
from tests.pictures import png

from llmcxr_models.checkpoint import Checkpoint, read_manifest, write_manifest
from llmcxr_models.observations import observable_findings
from llmcxr_service.observing import compare_with_text

FINDINGS = ("normal", "cardiomegaly", "pleural effusion")


@pytest.fixture
def checkpoint_path(tmp_path):
    path = build_checkpoint(tmp_path / "checkpoint")
    write_manifest(path, replace(read_manifest(path), findings=FINDINGS))
    return path


@pytest.fixture
def checkpoint(checkpoint_path):
    return Checkpoint.open(checkpoint_path)


async def _report(gateway):
    return await gateway.client.post("/generate-report", files={"file": ("r", png())})


async def test_every_finding_has_a_probability_and_a_code(gateway):
    answer = (await _report(gateway)).json()
    assert [o["name"] for o in answer["observations"]] == list(FINDINGS)
    assert all(0.0 < o["probability"] < 1.0 for o in answer["observations"])
    assert answer["observations"][1]["code"] == {
        "value": "8186001",
        "scheme": "SCT",
        "meaning": "Cardiomegaly",
    }
    assert answer["timings_ms"]["observe"] > 0.0


async def test_the_probability_is_the_share_of_yes_between_two_tokens(gateway, checkpoint):
    answer = (await _report(gateway)).json()
    # The first question reads the image; all others are one request, then the report.
    first, asked, report = gateway.vllm.requests
    yes, no = (checkpoint.load_tokenizer().encode_text(word)[0] for word in ("yes", "no"))
    assert (len(first["prompt"]), len(asked["prompt"])) == (1, len(FINDINGS) - 1)
    prompts = first["prompt"] + asked["prompt"]
    assert asked["allowed_token_ids"] == [yes, no]
    assert asked["max_tokens"] == asked["min_tokens"] == 1
    # One image: the questions share the beginning of the report's prompt.
    shared = checkpoint.manifest.vocabulary.image_length
    assert all(prompt[:shared] == report["prompt"][:shared] for prompt in prompts)
    for prompt, observation in zip(prompts, answer["observations"], strict=True):
        top = gateway.vllm.logprobs_of(asked | {"prompt": prompt})
        expected = 1 / (1 + math.exp(top[f"token_id:{no}"] - top[f"token_id:{yes}"]))
        assert observation["probability"] == pytest.approx(expected, abs=1e-6)


async def test_answers_in_another_order_are_put_right(gateway):
    usual = (await _report(gateway)).json()["observations"]
    gateway.vllm.faults.extend([None, Fault.OTHER_ORDER])
    assert (await _report(gateway)).json()["observations"] == usual


async def test_an_answer_that_is_missing_is_reported(gateway):
    gateway.vllm.faults.extend([None, Fault.ONE_MISSING])
    response = await _report(gateway)
    assert response.status_code == 502
    assert response.json()["reason"] == "shape"


async def test_a_language_model_that_knows_neither_answer_is_reported(gateway):
    gateway.vllm.hide_logprobs = True
    response = await _report(gateway)
    assert response.status_code == 502


async def test_a_checkpoint_without_findings_asks_nothing(start_gateway, vllm, tmp_path):
    plain = build_checkpoint(tmp_path / "plain")
    vllm.served_name = read_manifest(plain).served_name
    async with start_gateway(checkpoint=plain) as gateway:
        answer = (await _report(gateway)).json()
    assert answer["observations"] == []
    assert len(gateway.vllm.requests) == 1


def test_a_contradiction_between_text_and_answers_is_told():
    findings = observable_findings(FINDINGS)
    probabilities = {"normal": 0.2, "cardiomegaly": 0.9, "pleural effusion": 0.6}
    said = {"normal": False, "cardiomegaly": False, "pleural effusion": None}
    observations, notes = compare_with_text(findings, probabilities, said, {})
    assert [o.mentioned for o in observations] == [False, False, None]
    assert notes == ("The report's text and the model's own answers differ about: cardiomegaly.",)
    assert compare_with_text(findings, {**probabilities, "cardiomegaly": 0.1}, said, {})[1] == ()


def test_what_the_prompt_has_stated_counts_as_a_yes():
    findings = observable_findings(FINDINGS)
    probabilities = {"normal": 0.2, "cardiomegaly": 0.3, "pleural effusion": 0.3}
    said = {"normal": False, "cardiomegaly": True, "pleural effusion": False}
    stated_from = {"cardiomegaly": 0.2, "pleural effusion": 0.25}
    _, notes = compare_with_text(findings, probabilities, said, stated_from)
    assert notes == (
        "The report's text and the model's own answers differ about: pleural effusion.",
    )
