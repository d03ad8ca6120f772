"""An answer as a stream from vLLM: the same as in one piece, and typed where it breaks."""

import asyncio

import httpx
import pytest
from tests.fakes import Fault
from tests.service.conftest import serve

from llmcxr_models.errors import GeneratorMisbehaved, GeneratorUnavailable
from llmcxr_service.generator import FixedEndpoint, Sampling, VllmGenerator
from llmcxr_service.server_sent_events import HEARTBEAT, EventParser, ServerSentEvent

SAMPLING = Sampling(seed=7, temperature=0.8, top_p=0.9)


@pytest.fixture
def prompts(checkpoint):
    return checkpoint.load_prompts()


@pytest.fixture
async def generator(vllm, checkpoint):
    with serve(vllm.app()) as url:
        async with httpx.AsyncClient(trust_env=False) as client:
            name = checkpoint.manifest.served_name
            yield VllmGenerator(client, FixedEndpoint(url), name, timeout_seconds=5.0)


@pytest.mark.parametrize("tokens_at_once", [1, 3])
async def test_a_stream_is_the_same_answer(generator, vllm, prompts, tokens_at_once):
    vllm.tokens_at_once = tokens_at_once
    prompt, pieces = prompts.image("Clear lungs."), []
    whole = await generator.generate(prompt, SAMPLING)
    streamed = await generator.generate(prompt, SAMPLING, pieces.append)
    assert streamed == whole
    assert sum(pieces, ()) == whole.token_ids
    assert max(map(len, pieces)) == tokens_at_once
    assert whole.mean_log_probability is not None
    assert -1.0 <= whole.mean_log_probability < 0.0
    assert [r["logprobs"] for r in vllm.requests] == [0, 0]


async def test_tokens_come_while_the_answer_is_written(generator, vllm, prompts):
    vllm.token_seconds = 0.02
    running = []
    await generator.generate(
        prompts.image("Clear."), SAMPLING, lambda _: running.append(vllm.running)
    )
    assert running[0] == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.SERVER_ERROR, GeneratorMisbehaved),
        (Fault.BUSY, GeneratorUnavailable),
        (Fault.BAD_JSON, GeneratorMisbehaved),
        (Fault.NO_TOKEN_IDS, GeneratorMisbehaved),
        (Fault.WRONG_TYPE, GeneratorMisbehaved),
        (Fault.ABORTED, GeneratorMisbehaved),
        (Fault.NO_CHOICES, GeneratorMisbehaved),
        (Fault.OTHER_MODEL, GeneratorMisbehaved),
        (Fault.OTHER_PROMPT, GeneratorMisbehaved),
        (Fault.ERROR_EVENT, GeneratorMisbehaved),
        (Fault.BREAK_OFF, GeneratorUnavailable),
    ],
)
async def test_faults_are_typed(generator, vllm, prompts, fault, error):
    vllm.faults.append(fault)
    with pytest.raises(error):
        await generator.generate(prompts.image("Clear."), SAMPLING, lambda _: None)
    await generator.generate(prompts.image("Clear."), SAMPLING, lambda _: None)


async def test_a_listener_that_raises_ends_the_call(generator, vllm, prompts):
    vllm.token_seconds = 0.05

    def refuse(_):
        raise GeneratorMisbehaved("no", reason="length")

    with pytest.raises(GeneratorMisbehaved, match="no"):
        await generator.generate(prompts.image("Clear."), SAMPLING, refuse)
    async with asyncio.timeout(2.0):
        while vllm.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert vllm.cancelled == 1


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_survive_every_cut(size):
    events = [ServerSentEvent("a", '{"x": "\u2028é"}'), ServerSentEvent("message", "1")]
    wire = HEARTBEAT + b"".join(e.encode() for e in events) + b"data: x\r\ndata: y\r\n\r\n"
    parser = EventParser()
    parsed = [e for i in range(0, len(wire), size) for e in parser.feed(wire[i : i + size])]
    assert parsed == [*events, ServerSentEvent("message", "x\ny")]
