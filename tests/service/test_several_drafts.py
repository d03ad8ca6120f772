"""`n` drafts of one report, and how an answer can be produced again."""

import pytest
from tests.pictures import png

SAMPLED = {"seed": "4", "temperature": "0.9", "top_p": "0.8", "max_tokens": "24"}


async def ask(gateway, **fields):
    response = await gateway.client.post(
        "/generate-report", files={"file": ("x", png())}, data={**SAMPLED, **fields}
    )
    assert response.status_code == 200, response.text
    return response.json()


async def test_drafts_have_seeds_in_order_and_one_speaks(gateway):
    answer = await ask(gateway, n="4")
    candidates = answer["candidates"]
    assert [c["seed"] for c in candidates] == [4, 5, 6, 7]
    (spoken,) = [c for c in candidates if c["seed"] == answer["seed"]]
    assert spoken["text"] == answer["text"]
    assert spoken["mean_log_probability"] == answer["mean_log_probability"] < 0
    assert answer["usage"]["completion_tokens"] == sum(c["completion_tokens"] for c in candidates)
    assert 0 <= answer["agreement"]["text"] <= 1
    assert 0 <= answer["agreement"]["findings"] <= 1


async def test_the_same_request_again_and_each_draft_alone(gateway):
    answer, again = await ask(gateway, n="3"), await ask(gateway, n="3")
    answer.pop("timings_ms"), again.pop("timings_ms")
    assert answer == again
    for candidate in answer["candidates"]:
        alone = await ask(gateway, seed=str(candidate["seed"]))
        assert alone["text"] == candidate["text"]
        assert (alone["candidates"], alone["agreement"]) == ([], None)


async def test_disagreement_is_a_warning(gateway, checkpoint):
    tokenizer = checkpoint.load_tokenizer()
    texts = ["Cardiomegaly.", "Large pleural effusion.", "Cardiomegaly."]
    gateway.vllm.answers = {4 + i: tokenizer.encode_text(text) for i, text in enumerate(texts)}
    answer = await ask(gateway, n="3", max_tokens="200")
    assert answer["text"] == "Cardiomegaly."
    assert answer["agreement"]["affirmed"]["Cardiomegaly"] == pytest.approx(2 / 3)
    assert any("drafts differ about" in warning for warning in answer["warnings"])


async def test_every_answer_says_how_it_was_drawn(gateway):
    answer = await ask(gateway)
    assert answer["sampling"] == {"temperature": 0.9, "top_p": 0.8, "max_tokens": 24}
    response = await gateway.client.post(
        "/generate-image", json={"report": "Clear.", "seed": 1, "temperature": 0.5}
    )
    assert response.headers["X-Seed"] == "1"
    assert (response.headers["X-Temperature"], response.headers["X-Top-P"]) == ("0.5", "0.92")


@pytest.mark.parametrize("fields", [{"n": "2", "temperature": "0"}, {"n": "9"}, {"n": "0"}])
async def test_refused(gateway, fields):
    response = await gateway.client.post(
        "/generate-report", files={"file": ("x", png())}, data={**SAMPLED, **fields}
    )
    assert response.status_code == 422
    assert response.json()["errors"]


async def test_a_server_without_likelihoods(gateway):
    gateway.vllm.gives_logprobs = False
    assert (await ask(gateway))["mean_log_probability"] is None
