"""The wire to vLLM: what is sent, and what every way of failing becomes."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr
from tests.fakes import Fault
from tests.service.conftest import serve

from llmcxr_models.errors import (
    GeneratorMisbehaved,
    GeneratorRejected,
    GeneratorTimeout,
    GeneratorUnavailable,
    InvalidImageTokens,
)
from llmcxr_service.generator import FixedEndpoint, Sampling, VllmGenerator

SAMPLING = Sampling(seed=7, temperature=0.8, top_p=0.9)


@pytest.fixture
def prompts(checkpoint):
    return checkpoint.load_prompts()


@pytest.fixture
async def client(vllm):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(vllm.app())) as client:
        yield client


@pytest.fixture
def generator(client, checkpoint):
    return make_generator(client, checkpoint)


def make_generator(client, checkpoint, url="http://vllm", key="key", timeout_seconds=5.0):
    endpoint = FixedEndpoint(url, SecretStr(key))
    name = checkpoint.manifest.served_name
    return VllmGenerator(client, endpoint, name, timeout_seconds=timeout_seconds)


async def test_an_image_is_asked_for_by_constraint(generator, vllm, prompts, checkpoint):
    vocabulary = checkpoint.manifest.vocabulary
    prompt = prompts.image("Clear lungs.")
    generation = await generator.generate(prompt, SAMPLING)
    (body,) = vllm.requests
    assert body["prompt"] == list(prompt.token_ids)
    assert body["allowed_token_ids"] == list(vocabulary.image_token_ids)
    assert body["min_tokens"] == body["max_tokens"] == vocabulary.image_length
    assert body["return_token_ids"] is True
    assert (body["seed"], body["temperature"], body["top_p"]) == (7, 0.8, 0.9)
    assert "logit_bias" not in body
    assert len(vocabulary.to_codes(generation.token_ids)) == vocabulary.image_length


async def test_text_must_not_hold_image_tokens(generator, vllm, prompts, checkpoint):
    vocabulary = checkpoint.manifest.vocabulary
    await generator.generate(prompts.instruction("Say something."), SAMPLING)
    (body,) = vllm.requests
    assert body["logit_bias"] == {str(i): -100.0 for i in vocabulary.image_token_ids}
    assert body["stop_token_ids"] == list(vocabulary.stop_token_ids)
    assert "allowed_token_ids" not in body


async def test_questions_of_one_request_have_one_constraint(generator, vllm, prompts):
    assert await generator.log_probabilities([]) == []
    with pytest.raises(ValueError, match="one constraint"):
        await generator.log_probabilities([prompts.image("Clear."), prompts.instruction("Hello.")])
    assert vllm.requests == []


async def test_the_key_is_sent(client, checkpoint, vllm, prompts):
    vllm.api_key = "right"
    prompt = prompts.instruction("Hello.")
    with pytest.raises(GeneratorRejected):
        await make_generator(client, checkpoint, key="wrong").generate(prompt, SAMPLING)
    await make_generator(client, checkpoint, key="right").generate(prompt, SAMPLING)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.SERVER_ERROR, GeneratorMisbehaved),
        (Fault.REFUSE, GeneratorRejected),
        (Fault.BUSY, GeneratorUnavailable),
        (Fault.BAD_JSON, GeneratorMisbehaved),
        (Fault.NOT_JSON_OBJECT, GeneratorMisbehaved),
        (Fault.NO_TOKEN_IDS, GeneratorMisbehaved),
        (Fault.WRONG_TYPE, GeneratorMisbehaved),
        (Fault.ABORTED, GeneratorMisbehaved),
        (Fault.NO_CHOICES, GeneratorMisbehaved),
        (Fault.OTHER_MODEL, GeneratorMisbehaved),
        (Fault.OTHER_PROMPT, GeneratorMisbehaved),
    ],
)
async def test_faults_are_typed(generator, vllm, prompts, fault, error):
    prompt = prompts.image("A fracture of rib 7.")
    vllm.faults.append(fault)
    with pytest.raises(error) as caught:
        await generator.generate(prompt, SAMPLING)
    # The fake quotes the prompt in its refusal; we do not.
    assert str(prompt.token_ids[3]) not in str(caught.value)
    await generator.generate(prompt, SAMPLING)


@pytest.mark.parametrize(
    "fault", [Fault.TOO_FEW, Fault.TOO_MANY, Fault.OUT_OF_RANGE, Fault.NEGATIVE]
)
async def test_no_whole_image(generator, vllm, prompts, checkpoint, fault):
    vllm.faults.append(fault)
    generation = await generator.generate(prompts.image("Clear."), SAMPLING)
    with pytest.raises(InvalidImageTokens):
        checkpoint.manifest.vocabulary.to_codes(generation.token_ids)


async def test_hanging_is_a_timeout_and_the_call_is_dropped(client, checkpoint, vllm, prompts):
    vllm.faults.append(Fault.HANG)
    generator = make_generator(client, checkpoint, timeout_seconds=0.1)
    with pytest.raises(GeneratorTimeout):
        await generator.generate(prompts.image("Clear."), SAMPLING)
    assert vllm.cancelled == 1


async def test_cancelling_drops_the_call(generator, vllm, prompts):
    vllm.faults.append(Fault.HANG)
    task = asyncio.create_task(generator.generate(prompts.image("Clear."), SAMPLING))
    await asyncio.sleep(0.05)
    assert vllm.running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert vllm.cancelled == 1


async def test_nobody_listens(checkpoint, prompts):
    async with httpx.AsyncClient(trust_env=False) as client:
        generator = make_generator(client, checkpoint, url="http://127.0.0.1:9")
        with pytest.raises(GeneratorUnavailable) as caught:
            await generator.generate(prompts.image("Clear."), SAMPLING)
    assert caught.value.reason == "unreachable"


async def test_dying_in_the_middle_of_an_answer(checkpoint, vllm, prompts):
    with serve(vllm.app()) as url:
        async with httpx.AsyncClient(trust_env=False) as client:
            generator = make_generator(client, checkpoint, url=url)
            vllm.faults.append(Fault.DIE)
            with pytest.raises(GeneratorUnavailable) as caught:
                await generator.generate(prompts.image("Clear."), SAMPLING)
            assert caught.value.reason == "connection-lost"
            await generator.generate(prompts.image("Clear."), SAMPLING)
