"""Pulls by WADO-RS: from an archive that behaves, and from ones that do not."""

from __future__ import annotations

import asyncio
import io

import pytest
from pydicom import dcmread
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.pictures import PATIENT, PATIENT_ID
from tests.service.conftest import serve
from tests.service.receiving.conftest import free_port, instance

from llmcxr_service.errors import SourcesError
from llmcxr_service.intake_dicom.sources import load_sources

LIMIT = 200_000
RELATED = 'multipart/related; type="application/dicom"; boundary=B'
GOOD = instance()
OTHER = instance()
PATH = "/wado/studies/{study}/series/{series}/instances/{instance}"


def related(*parts):
    body = b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + p + b"\r\n" for p in parts)
    return Response(body + b"--B--\r\n", headers={"Content-Type": RELATED})


class Archive:
    """Speaks WADO-RS as the test says, and remembers what it was asked."""

    def __init__(self):
        self.answer = lambda: related(GOOD)
        self.requests = []

    async def wado(self, request):
        self.requests.append(request)
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    def app(self):
        return Starlette(routes=[Route(PATH, self.wado), Route("/elsewhere", self.wado)])


@pytest.fixture(scope="module")
def archive():
    found = Archive()
    with serve(found.app()) as url:
        found.url = url
        yield found


@pytest.fixture
def sources(archive, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    archive.answer = lambda: related(GOOD)
    archive.requests.clear()
    path = tmp_path / "sources.toml"
    path.write_text(f"""
[[sources]]
name = "pacs"
url = "{archive.url}/wado/"
timeout_seconds = 3.0
credentials = {{ token_file = "{tmp_path}/secret" }}

[[sources]]
name = "basic"
url = "{archive.url}/wado"
credentials = {{ username = "llmcxr", password_file = "{tmp_path}/secret" }}

[[sources]]
name = "gone"
url = "http://127.0.0.1:{free_port()}"
""")
    return path


def ids(data=GOOD):
    dataset = dcmread(io.BytesIO(data))
    return {
        "study": dataset.StudyInstanceUID,
        "series": dataset.SeriesInstanceUID,
        "instance": dataset.SOPInstanceUID,
    }


async def ask(start_gateway, sources, *, source="pacs", names=None, **options):
    async with start_gateway(dicom_sources=sources, max_body_bytes=LIMIT) as gateway:
        return await gateway.client.post(
            "/generate-report",
            json={"dicomweb": {"source": source, **(names or ids())}, **options},
        )


async def test_a_report_of_an_instance_in_the_archive(start_gateway, sources, archive):
    pulled = await ask(start_gateway, sources, seed=3, temperature=1.0, indication="Cough.")
    assert pulled.status_code == 200, pulled.text
    async with start_gateway() as gateway:
        sent = await gateway.client.post(
            "/generate-report",
            files={"file": GOOD},
            data={"seed": "3", "temperature": "1.0", "indication": "Cough."},
        )
    assert pulled.json()["text"] == sent.json()["text"]
    request = archive.requests[0]
    assert request.headers["authorization"] == "Bearer s3cret"
    assert 'multipart/related; type="application/dicom"' in request.headers["accept"]
    assert "transfer-syntax=*" in request.headers["accept"]


async def test_with_a_password(start_gateway, sources, archive):
    assert (await ask(start_gateway, sources, source="basic")).status_code == 200
    assert archive.requests[0].headers["authorization"].startswith("Basic ")


async def test_a_file_without_multipart_is_taken_too(start_gateway, sources, archive):
    archive.answer = lambda: Response(GOOD, media_type="application/dicom")
    assert (await ask(start_gateway, sources)).status_code == 200


async def slow():
    await asyncio.sleep(20)


def endless():
    async def body():
        yield b"--B\r\n\r\n"
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)  # else it would never see that nobody listens

    return StreamingResponse(body(), headers={"Content-Type": RELATED})


def endless_parts():
    async def body():
        while True:
            yield b"--B\r\n\r\n\r\n" * 100
            await asyncio.sleep(0)

    return StreamingResponse(body(), headers={"Content-Type": RELATED})


def crumbs():
    async def body():
        yield b"--B\r\n\r\n"
        for number in range(LIMIT):  # within the limit of bytes
            yield b"x"
            if number % 100 == 0:
                await asyncio.sleep(0)
        yield b"\r\n--B--\r\n"

    return StreamingResponse(body(), headers={"Content-Type": RELATED})


def dripping():
    async def body():
        while True:
            yield b"x"
            await asyncio.sleep(0.1)

    return StreamingResponse(body(), headers={"Content-Type": "application/dicom"})


@pytest.mark.parametrize(
    ("answer", "status", "slug"),
    [
        (lambda: Response(status_code=404), 422, "instance-not-found"),
        (lambda: Response(status_code=401), 502, "source-refused"),
        (lambda: Response(status_code=403), 502, "source-refused"),
        (lambda: Response(status_code=503), 502, "source-unavailable"),
        (lambda: Response(status_code=500), 502, "source-misbehaved"),
        (lambda: Response(status_code=204), 502, "source-misbehaved"),
        (lambda: RedirectResponse("/elsewhere"), 502, "source-misbehaved"),
        (lambda: Response("<html>", media_type="text/html"), 502, "source-misbehaved"),
        (lambda: Response(b"--B\r\n\r\nx", headers={"Content-Type": RELATED}), 502, None),
        (lambda: related(), 502, "source-misbehaved"),
        (lambda: related(GOOD, OTHER), 502, "source-misbehaved"),
        (lambda: related(OTHER), 502, "source-misbehaved"),
        (lambda: related(b"no DICOM"), 502, "source-misbehaved"),
        (lambda: related(bytes(LIMIT + 1)), 413, "body-too-large"),
        (endless, 413, "body-too-large"),
        (endless_parts, 502, "source-misbehaved"),  # at the second, not when it is too much
        (crumbs, 502, "source-misbehaved"),
        (dripping, 504, "source-timeout"),
        (slow, 504, "source-timeout"),
    ],
)
async def test_an_archive_that_does_not_behave(
    start_gateway, sources, archive, answer, status, slug
):
    archive.answer = answer
    response = await ask(start_gateway, sources)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert slug is None or response.json()["type"] == f"/problems/{slug}"
    assert len(archive.requests) == 1
    for private in (PATIENT, PATIENT_ID, *ids().values(), archive.url, "s3cret"):
        assert private not in response.text


async def test_an_archive_that_is_away_or_unknown(start_gateway, sources):
    assert (await ask(start_gateway, sources, source="gone")).json()["status"] == 502
    unknown = await ask(start_gateway, sources, source="nobody")
    assert unknown.status_code == 422
    assert unknown.json()["type"] == "/problems/unknown-source"


@pytest.mark.parametrize(
    "dicomweb",
    [
        {"source": "http://127.0.0.1/", **ids()},
        {"source": "PACS", **ids()},
        {"source": "pacs", **ids(), "instance": "../1"},
        {"source": "pacs", **ids(), "study": "1.2/series"},
        {"source": "pacs", **ids(), "series": "1." + "2" * 64},
        {"source": "pacs", **ids(), "series": "01.2"},
        {"source": "pacs", **ids(), "series": "1.2\n"},
        {"source": "pacs", "study": "1.2"},
        {"source": "pacs", **ids(), "url": "http://127.0.0.1"},
        "http://127.0.0.1/studies/1.2",
        None,
    ],
)
async def test_what_a_caller_may_say(start_gateway, sources, archive, dicomweb):
    async with start_gateway(dicom_sources=sources) as gateway:
        response = await gateway.client.post("/generate-report", json={"dicomweb": dicomweb})
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/invalid-request"
    assert "127.0.0.1" not in response.text
    assert archive.requests == []


async def test_exactly_one_input(start_gateway, sources):
    async with start_gateway(dicom_sources=sources) as gateway:
        both = await gateway.client.post(
            "/generate-report", files={"file": GOOD}, data={"dicomweb": "{}"}
        )
        neither = await gateway.client.post("/generate-report", json={})
    assert (both.status_code, neither.status_code) == (422, 422)


async def test_over_tls(start_gateway, certificates, tmp_path):
    with serve(Archive().app(), ssl_certfile=str(certificates["server"])) as url:
        path = tmp_path / "sources.toml"
        text = f'[[sources]]\nname = "pacs"\nurl = "{url}/wado"\n'
        path.write_text(text + f'tls = {{ ca_file = "{certificates["ca"]}" }}\n')
        assert (await ask(start_gateway, path)).status_code == 200
        path.write_text(text)  # the system's authorities do not know this one
        assert (await ask(start_gateway, path)).json()["type"] == "/problems/source-unavailable"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[sources]]", "sources.0.name"),
        ("[[sources]]\nname = 'a'\nurl = 'ftp://s3cret'", "sources.0.url"),
        ("[[sources]]\nname = 'a'\nurl = 'http://s3cret'\n" * 2, "distinct"),
        (
            "[[sources]]\nname='a'\nurl='http://s3cret'\ncredentials={token_file='/nowhere'}",
            "Archive a",
        ),
        ("[[sources]]\nname='a'\nurl='http://s3cret'\ntls={ca_file='/nowhere'}", "Archive a"),
        ("x", "no TOML"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, told):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(SourcesError) as error:
        load_sources(tmp_path / "s.toml")
    assert told in str(error.value)
    assert "s3cret" not in str(error.value)
