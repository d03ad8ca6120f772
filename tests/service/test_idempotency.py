"""Idempotency-Key: the same again, something else with the same key, and two at once."""

import asyncio
import os
import stat

import pytest
from tests import pictures

from llmcxr_service.idempotency import Answer, AnswerStore

IMAGE = {"report": "Cardiomegaly of Mrs Doe."}


@pytest.fixture
def start(start_gateway, tmp_path):
    return lambda **changes: start_gateway(spool=tmp_path / "spool", **changes)


async def post(gateway, key="one", body=IMAGE, path="/generate-image"):
    headers = {"Idempotency-Key": key, "Accept": "application/json"}
    return await gateway.client.post(path, json=body, headers=headers)


async def test_the_same_again_is_the_same_answer(start, vllm, tmp_path):
    async with start() as gateway:
        first = await post(gateway)
        asked = len(vllm.requests)
        again = await post(gateway, '"one"')
        assert again.status_code == first.status_code == 200
        assert again.content == first.content  # a drawn seed would make it another
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert len(vllm.requests) == asked
        assert (await post(gateway, "two")).content != first.content
    folder = tmp_path / "spool" / "idempotency"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "one" not in path.name
        assert b"Mrs Doe" not in path.read_bytes()


async def test_another_request_with_the_key_is_refused(start):
    async with start() as gateway:
        assert (await post(gateway)).status_code == 200
        refused = await post(gateway, body={"report": "No effusion."})
        assert (refused.status_code, refused.json()["reason"]) == (422, "idempotency-mismatch")
        refused = await post(gateway, body={"instruction": "x"}, path="/instruct")
        assert refused.status_code == 422


async def test_two_at_once(start, vllm):
    vllm.delay_seconds = 1.0
    async with start() as gateway:
        first = asyncio.create_task(post(gateway))
        while not vllm.requests:  # noqa: ASYNC110 - what changes has no event
            await asyncio.sleep(0.01)
        conflict = await post(gateway)
        assert (conflict.status_code, conflict.json()["reason"]) == (409, "idempotency-conflict")
        assert conflict.headers["retry-after"] == "1"
        answer = await first
        assert (await post(gateway)).content == answer.content


async def test_a_forms_boundary_is_no_difference(start, vllm):
    data = pictures.dicom()
    async with start() as gateway:
        answers = [
            await gateway.client.post(
                "/generate-report",
                files={"file": ("a.dcm", data)},
                headers={"Idempotency-Key": "form"},
            )
            for _ in range(2)
        ]
    assert answers[0].status_code == 200
    assert answers[1].content == answers[0].content
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_failures_that_pass_are_not_kept(start, vllm):
    vllm.up = False
    async with start() as gateway:
        assert (await post(gateway)).status_code == 503
        vllm.up = True
        async with asyncio.timeout(60):
            while (await post(gateway)).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def test_refusals_are_kept(start):
    async with start() as gateway:
        refused = [await post(gateway, body={"report": ""}) for _ in range(2)]
        assert [answer.status_code for answer in refused] == [422, 422]
        assert refused[1].headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä"])
async def test_unusable_keys(start, key):
    async with start() as gateway:
        headers = {"Idempotency-Key": key.encode()}
        answer = await gateway.client.post("/generate-image", json=IMAGE, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (400, "idempotency-key")


async def test_it_can_be_off(start, tmp_path):
    async with start(idempotency_hours=0) as gateway:
        first, second = await post(gateway), await post(gateway)
        assert first.json()["seed"] != second.json()["seed"]
        assert not (tmp_path / "spool").exists()


def test_keys_expire_and_are_swept(tmp_path):
    store = AnswerStore(tmp_path, seconds=100.0)
    for key in ("old", "held", "young"):
        descriptor = store.lock(key)
        store.put(key, Answer("f", 200, [(b"a", b"b")], b"body\nmore"))
        if key != "held":
            store.unlock(descriptor)
    assert store.get("old") == Answer("f", 200, [(b"a", b"b")], b"body\nmore")
    for name in ("old.lock", "old.answer", "held.lock"):
        os.utime(tmp_path / "idempotency" / name, (1.0, 1.0))
    assert store.get("old") is None
    store.sweep_now()
    left = {path.name for path in (tmp_path / "idempotency").iterdir()}
    assert left == {"held.lock", "held.answer", "young.lock", "young.answer"}


EVENTS = {"Idempotency-Key": "one", "Accept": "text/event-stream"}


async def stream(gateway, body=IMAGE):
    return await gateway.client.post("/generate-image", json=body, headers=EVENTS)


async def test_a_stream_is_not_kept_and_is_made_anew(start, vllm):
    async with start() as gateway:
        first, again = await stream(gateway), await stream(gateway)
        assert (first.status_code, again.status_code) == (200, 200)
        assert b"event: done" in again.content
        assert "idempotency-replayed" not in again.headers
        assert first.content != again.content  # a seed was drawn for each
        assert len(vllm.requests) == 2
        # Nothing is kept, so the key is still free for another request; and that one is kept.
        kept = await post(gateway)
        assert (await post(gateway)).content == kept.content
        assert (await stream(gateway)).json()["reason"] == "idempotency-mismatch"


async def test_a_stream_in_work_holds_its_key(start, vllm):
    vllm.delay_seconds = 1.0
    async with start() as gateway:
        first = asyncio.create_task(stream(gateway))
        while not vllm.requests:  # noqa: ASYNC110 - what changes has no event
            await asyncio.sleep(0.01)
        for conflict in (await stream(gateway), await post(gateway)):
            found = conflict.status_code, conflict.json()["reason"]
            assert found == (409, "idempotency-conflict")
        assert (await first).status_code == 200
        assert len(vllm.requests) == 1


async def test_a_refusal_of_a_stream_is_kept(start):
    async with start() as gateway:
        refused = [await stream(gateway, {"report": ""}) for _ in range(2)]
        assert [answer.status_code for answer in refused] == [422, 422]
        assert refused[1].headers["idempotency-replayed"] == "true"


async def test_a_key_that_cannot_be_kept_is_refused_before_the_work(start, vllm, tmp_path):
    async with start() as gateway:
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "idempotency").touch()  # no directory can be made here
        refused = await post(gateway)
        found = refused.status_code, refused.json()["type"]
        assert found == (503, "/problems/queue-unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert not vllm.requests
        (tmp_path / "spool" / "idempotency").unlink()
        assert (await post(gateway)).status_code == 200
