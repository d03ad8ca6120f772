"""Answers as events: what comes when, and what happens when somebody goes away."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.fakes import Fault
from tests.service.conftest import serve

from llmcxr_service.app import create_app
from llmcxr_service.errors import Overloaded
from llmcxr_service.event_stream import Events, Pace, event_stream
from llmcxr_service.schemas_status import Alive
from llmcxr_service.server_sent_events import EventParser

EVENTS = {"Accept": "text/event-stream"}
INSTRUCTION = {"instruction": "Say something.", "seed": 5}
REPORT = {"report": "The lungs are clear.", "seed": 5}


def parse(content: bytes) -> list[tuple[str, object]]:
    return [(event.name, json.loads(event.data)) for event in EventParser().feed(content)]


@asynccontextmanager
async def over_the_wire(make_settings, vllm, **changes):
    """A gateway and a vLLM as real servers, so that tokens really come one by one."""
    with serve(vllm.app()) as url, serve(create_app(make_settings(vllm_url=url, **changes))) as own:
        async with httpx.AsyncClient(base_url=own, trust_env=False, timeout=20.0) as client:
            yield client


async def test_an_instruction(gateway):
    whole = (await gateway.client.post("/instruct", json=INSTRUCTION)).json()
    response = await gateway.client.post("/instruct", json=INSTRUCTION, headers=EVENTS)
    assert response.headers["content-type"] == "text/event-stream"
    (first, meta), *parts, (last, done) = parse(response.content)
    assert (first, last) == ("meta", "done")
    assert meta == {
        "model": whole["model"],
        "seed": 5,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 256},
        "preprocessing": None,
        "ai_generated": True,
    }
    assert {name for name, _ in parts} == {"text"}
    assert "".join(part["text"] for _, part in parts) == whole["response"]
    timings = done.pop("timings_ms"), whole.pop("timings_ms")
    assert timings[0].keys() == timings[1].keys()
    assert done == whole


async def test_images_are_progress_and_then_pictures(gateway, checkpoint):
    length = checkpoint.manifest.vocabulary.image_length
    whole = await gateway.client.post(
        "/generate-image", json={**REPORT, "n": 2}, headers={"Accept": "application/json"}
    )
    response = await gateway.client.post("/generate-image", json={**REPORT, "n": 2}, headers=EVENTS)
    events = parse(response.content)
    for image in (0, 1):
        drawn = [e["tokens"] for n, e in events if n == "progress" and e["image"] == image]
        assert drawn == sorted(set(drawn))
        assert drawn[-1] == length
    pictures = [event for name, event in events if name == "image"]
    assert [picture.pop("image") for picture in pictures] == [0, 1]
    assert pictures == whole.json()["images"]
    assert events[-1][0] == "done"
    assert events[-1][1]["usage"] == whole.json()["usage"]


async def test_words_come_while_the_model_writes(make_settings, vllm, checkpoint):
    vllm.answer = checkpoint.load_tokenizer().encode_text("one two three four five six seven")
    vllm.token_seconds = 0.05
    async with over_the_wire(make_settings, vllm) as client:
        running = []
        async with client.stream("POST", "/instruct", json=INSTRUCTION, headers=EVENTS) as response:
            async for _ in response.aiter_bytes():
                running.append(vllm.running)
    assert running[0] == 1
    assert len(running) > 3


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.BUSY, 503), (Fault.REFUSE, 502), (Fault.SERVER_ERROR, 502)]
)
async def test_before_the_first_word_a_failure_is_a_status(gateway, fault, status):
    gateway.vllm.faults.extend([fault] * 4)
    response = await gateway.client.post("/instruct", json=INSTRUCTION, headers=EVENTS)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_after_it_a_failure_is_the_last_event(make_settings, vllm, checkpoint):
    vllm.answer = checkpoint.load_tokenizer().encode_text("one two three")
    vllm.token_seconds = 0.02
    vllm.faults.append(Fault.BREAK_OFF)
    async with over_the_wire(make_settings, vllm) as client:
        response = await client.post("/instruct", json=INSTRUCTION, headers=EVENTS)
        assert response.status_code == 200
        name, problem = parse(response.content)[-1]
        assert name == "error"
        assert problem["status"] == 503
        assert problem["retry_after_seconds"] >= 1
        assert problem["request_id"] == response.headers["x-request-id"]
        metrics = (await client.get("/metrics")).text
        assert f'reason="{problem["reason"]}"' in metrics
        # Its status was 200, and yet it failed.
        assert 'llmcxr_request_seconds_count{outcome="failed",route="/instruct"} 1.0' in metrics


async def test_whoever_goes_away_ends_the_work(make_settings, vllm):
    vllm.token_seconds = 0.2
    async with over_the_wire(make_settings, vllm, max_pending=1) as client:
        async with client.stream("POST", "/generate-image", json=REPORT, headers=EVENTS) as stream:
            await anext(stream.aiter_bytes())
            refused = await client.post("/generate-image", json=REPORT)
            assert refused.status_code == 503
        async with asyncio.timeout(2.0):
            while vllm.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert vllm.cancelled == 1
        vllm.token_seconds = 0.0
        async with asyncio.timeout(2.0):
            while (await client.post("/generate-image", json=REPORT)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_quiet_answer_begins_and_stays_open():
    async def work(events: Events):
        events.begin(Alive())
        await asyncio.sleep(0.1)
        raise Overloaded("Busy.", retry_after_seconds=3)

    sent, scope = [], {"state": {"request_id": "1"}}

    async def send(message):
        sent.append(message)

    await (await event_stream(work, Pace(0.01, 0.02)))(scope, None, send)
    body = b"".join(message.get("body", b"") for message in sent)
    assert body.count(b": still here") >= 2
    assert parse(body)[-1] == (
        "error",
        {
            "type": "/problems/overloaded",
            "title": "Overloaded",
            "status": 503,
            "detail": "Busy.",
            "reason": "overloaded",
            "request_id": "1",
            "retry_after_seconds": 3,
        },
    )


async def test_a_reader_that_takes_nothing_ends_the_work():
    ended = asyncio.Event()

    async def work(events: Events):
        events.begin(Alive())
        events.text("text", "a")
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    scope = {"state": {"request_id": "1"}}
    await (await event_stream(work, Pace(slowest_reader=0.05)))(scope, None, send)
    assert ended.is_set()
    assert scope["state"]["rejection"] == "slow-reader"


async def test_what_nobody_foresaw_says_nothing_and_is_logged():
    async def work(events: Events):
        events.begin(Alive())
        events.text("text", "a")
        await asyncio.sleep(0)
        raise RuntimeError("a patient's name")

    sent = []

    async def send(message):
        sent.append(message)

    response = await event_stream(work)
    with pytest.raises(RuntimeError):
        await response({"state": {"request_id": "1"}}, None, send)
    body = b"".join(message.get("body", b"") for message in sent)
    assert parse(body)[-1][1]["status"] == 500
    assert b"patient" not in body
