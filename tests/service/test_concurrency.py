"""Many clients at once: no answer is mixed up, and what is too much is refused."""

import asyncio
from collections import Counter

from tests.pictures import dicom, png


async def test_32_images_are_those_of_32_single_requests(gateway):
    async def draw(i):
        response = await gateway.client.post(
            "/generate-image",
            json={"report": f"Nodule number {i}.", "seed": i},
            headers={"Accept": "application/json"},
        )
        assert response.status_code == 200
        return response.json()["images"][0]["codes"]

    alone = [await draw(i) for i in range(32)]
    gateway.vllm.delay_seconds = 0.05
    together = await asyncio.gather(*(draw(i) for i in range(32)))
    assert together == alone
    assert len({tuple(codes) for codes in alone}) == 32
    assert gateway.vllm.most_running == 32
    batches = await gateway.metric("llmcxr_micro_batch_size_count", kind="decode")
    assert batches < 64


async def test_32_reports_are_those_of_32_files(gateway):
    async def report(i):
        data = dicom(i) if i % 2 else png(i)
        response = await gateway.client.post("/generate-report?seed=1", content=data)
        assert response.status_code == 200
        return response.json()["text"]

    alone = [await report(i) for i in range(32)]
    prompts = [body["prompt"] for body in gateway.vllm.requests]
    together = await asyncio.gather(*(report(i) for i in range(32)))
    later = [body["prompt"] for body in gateway.vllm.requests[32:]]
    assert together == alone
    assert Counter(map(tuple, later)) == Counter(map(tuple, prompts))


async def test_beyond_the_limit_is_refused_at_once(start_gateway):
    async with start_gateway(max_pending=4) as gateway:
        gateway.vllm.delay_seconds = 0.3
        answers = await asyncio.gather(
            *(gateway.client.post("/generate-image", json={"report": "Clear."}) for _ in range(10))
        )
        assert Counter(a.status_code for a in answers) == {200: 4, 503: 6}
        for refused in (a for a in answers if a.status_code == 503):
            assert refused.json()["type"] == "/problems/overloaded"
            assert int(refused.headers["retry-after"]) >= 1
        assert await gateway.metric("llmcxr_rejections_total", reason="overloaded") == 6
        assert await gateway.metric("llmcxr_pending_requests") == 0
        again = await gateway.client.post("/generate-image", json={"report": "Clear."})
        assert again.status_code == 200


async def test_health_answers_while_everything_is_busy(start_gateway):
    async with start_gateway(max_pending=1) as gateway:
        gateway.vllm.delay_seconds = 0.5
        work = asyncio.create_task(
            gateway.client.post("/generate-image", json={"report": "Clear."})
        )
        await asyncio.sleep(0.1)
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await gateway.client.get(path)).status_code == 200
        assert not work.done()
        assert (await work).status_code == 200
