"""Webhooks: who may be named, what is sent, how it is signed, and that it is sent again."""

import asyncio
import base64
import hashlib
import hmac
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from tests.service.conftest import serve
from tests.service.jobs.conftest import until

from llmcxr_service.errors import WebhooksError
from llmcxr_service.jobs.webhooks import load_webhooks

SECRET = b"a secret of more than 24 bytes"


@pytest.fixture
def file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")

    def write(url):
        path = tmp_path / "webhooks.toml"
        path.write_text(f'[[webhooks]]\nname = "ris"\nurl = "{url}"\nsecret_file = "{secret}"\n')
        return path

    return write


async def test_a_job_tells_of_its_end(start_working, file):
    calls, statuses = [], [500, 302, 200]

    async def hear(request):
        calls.append((dict(request.headers), await request.body()))
        return Response(status_code=statuses[len(calls) - 1], headers={"Location": "/other"})

    app = Starlette(routes=[Route("/hear", hear, methods=["POST"])])
    with serve(app) as url:
        async with start_working(webhooks=file(f"{url}/hear")) as working:
            name = (await working.draw("Cardiomegaly of Mrs Doe.", webhook="ris")).json()["id"]
            await until(lambda: len(calls) == 3)
            job = await working.job(name)
            assert job["state"] == "completed"
            await asyncio.sleep(0.5)
    assert len(calls) == 3
    assert len({body for _, body in calls}) == 1
    for headers, body in calls:
        signed = f"{name}.end.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        assert headers["webhook-id"] == f"{name}.end"
        assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(calls[0][1])
    assert (told["job"], told["state"], told["done"]) == (name, "completed", 1)
    assert b"Doe" not in calls[0][1]


async def test_a_cancelled_job_does_too(start_working, file, vllm):
    vllm.delay_seconds = 30.0
    states = []

    async def hear(request):
        states.append((await request.json())["state"])
        return Response()

    app = Starlette(routes=[Route("/", hear, methods=["POST"])])
    with serve(app) as url:
        async with start_working(webhooks=file(f"{url}/")) as working:
            name = (await working.draw("Cardiomegaly.", webhook="ris")).json()["id"]
            await working.gateway.client.delete(f"/jobs/{name}")
            await until(lambda: states == ["cancelled"])


@pytest.mark.parametrize("url", ["http://10.0.0.1/x", "ftp://x", "file:///etc/passwd", "no url"])
def test_urls_that_are_refused(file, url):
    with pytest.raises(WebhooksError):
        load_webhooks(file(url))


def test_a_short_secret_is_none(file, tmp_path):
    path = file("https://ris.example.org/hook")
    assert list(load_webhooks(path)) == ["ris"]
    (tmp_path / "secret").write_text("short")
    with pytest.raises(WebhooksError, match="secret"):
        load_webhooks(path)


def test_no_file(tmp_path):
    assert load_webhooks(None) == {}
    with pytest.raises(WebhooksError):
        load_webhooks(tmp_path / "absent")
