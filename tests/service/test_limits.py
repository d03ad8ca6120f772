"""Admission, slow bodies, and pictures that never touch a disk."""

import asyncio
import tempfile

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.pictures import save

from llmcxr_service.body_limit import BodyLimit
from llmcxr_service.errors import BodyTooSlow, Overloaded
from llmcxr_service.limits import Admission


def test_slots_are_given_back_after_success_and_failure():
    pending = []
    admission = Admission(2, pending.append)
    with admission.slot():
        with pytest.raises(ZeroDivisionError), admission.slot():
            raise ZeroDivisionError
        with admission.slot(), pytest.raises(Overloaded), admission.slot():
            pass
    assert pending == [1, 2, 1, 2, 1, 0]


def test_retry_after_follows_the_measured_time():
    seconds = iter(range(0, 10_000, 30))
    admission = Admission(1, lambda _: None, clock=lambda: next(seconds))
    assert admission.retry_after_seconds == 1
    waits = []
    for _ in range(30):
        with admission.slot():
            waits.append(admission.retry_after_seconds)
    assert waits == sorted(waits)
    assert waits[-1] == 30
    with admission.slot(), pytest.raises(Overloaded) as caught, admission.slot():
        pass
    assert caught.value.retry_after_seconds == 30


async def test_a_body_that_does_not_come():
    async def read(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(str(len(await request.body())))
        except BodyTooSlow:
            return PlainTextResponse("slow", 408)

    app = BodyLimit(Starlette(routes=[Route("/", read, methods=["POST"])]), 1000, 0.05)

    async def never():
        yield b"x"
        await asyncio.sleep(5.0)
        yield b"y"

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.post("/", content=never())).status_code == 408
        assert (await client.post("/", content=b"abc")).text == "3"


async def test_an_uploaded_picture_is_never_on_disk(gateway, monkeypatch, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000), dtype=np.uint8)
    picture = save(noise, "PNG")
    assert len(picture) > 3_000_000
    # Whoever wanted to write a temporary file now could not.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    response = await gateway.client.post("/reconstruct", files={"file": ("a", picture)})
    assert response.status_code == 200
