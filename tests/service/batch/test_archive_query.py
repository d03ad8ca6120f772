"""Queries of an archive: an ASGI application that answers QIDO-RS as archives do."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.service.conftest import serve

from llmcxr_service.batch.archive_query import list_archive
from llmcxr_service.errors import BatchError, SourceMisbehaved, SourceRefused, SourceUnavailable
from llmcxr_service.intake_dicom.qido import find_instances
from llmcxr_service.intake_dicom.sources import load_sources


class Archive:
    """Instances by modality and day, and an answer to give instead of them."""

    def __init__(self):
        self.kept = [
            (m, f"2025010{day}", n) for m in ("CR", "DX") for day in (1, 2) for n in range(3)
        ]
        self.asked = []
        self.instead = None

    def app(self):
        return Starlette(routes=[Route("/dicom-web/instances", self.find)])

    async def find(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        if self.instead is not None:
            return self.instead
        found = [
            entry(modality, day, number)
            for modality, day, number in self.kept
            if asked.get("Modality", modality) == modality and asked.get("StudyDate", day) == day
        ]
        first = int(asked["offset"])
        page = found[first : first + int(asked["limit"])]
        return JSONResponse(page) if page else Response(status_code=204)


def entry(modality, day, number):
    uid = f"1.2.3.{ord(modality[0])}.{day}.{number}"
    tags = {"0020000D": uid, "0020000E": f"{uid}.1", "00080018": f"{uid}.1.1"}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in tags.items()}


@pytest.fixture
def archive():
    return Archive()


@pytest.fixture
def sources(archive, tmp_path):
    with serve(archive.app()) as url:
        file = tmp_path / "archives.toml"
        file.write_text(f'[[sources]]\nname = "pacs"\nurl = "{url}/dicom-web"\n')
        yield file


async def listed(settings, source):
    return [item async for item in list_archive(settings, source)]


async def test_both_modalities_day_by_day(archive, sources, make_settings):
    settings = make_settings(dicom_sources=sources)
    items = await listed(settings, "dicomweb:pacs?StudyDate=20250101-20250102&PatientSex=F")
    assert [item.number for item in items] == list(range(12))
    assert len({item.instance for item in items}) == 12
    assert items[0].dicomweb.source == "pacs"
    assert all(asked["PatientSex"] == "F" for asked in archive.asked)
    days = [asked["StudyDate"] for asked in archive.asked]
    assert days == sorted(days)


async def test_one_modality_and_no_days(archive, sources, make_settings):
    items = await listed(make_settings(dicom_sources=sources), "dicomweb:pacs?Modality=DX")
    assert len(items) == 6
    assert all("StudyDate" not in asked for asked in archive.asked)


async def test_pages(archive, sources):
    source = load_sources(sources).sources[0]
    found = [one async for one in find_instances(source, {}, page=5)]
    assert len({one.instance for one in found}) == 12
    assert [asked["offset"] for asked in archive.asked] == ["0", "5", "10"]


@pytest.mark.parametrize(
    ("instead", "error"),
    [
        (Response(status_code=401), SourceRefused),
        (Response(status_code=503), SourceUnavailable),
        (Response(status_code=500), SourceMisbehaved),
        (Response(b"<html>"), SourceMisbehaved),
        (Response(b"{}"), SourceMisbehaved),
        (Response(json.dumps([{"0020000D": {"vr": "UI"}}])), SourceMisbehaved),
        (Response(json.dumps([entry("CR", "x y", 1)])), SourceMisbehaved),
        (Response(json.dumps([7])), SourceMisbehaved),
    ],
)
async def test_an_archive_that_misbehaves(archive, sources, make_settings, instead, error):
    archive.instead = instead
    with pytest.raises(error):
        await listed(make_settings(dicom_sources=sources), "dicomweb:pacs")


async def test_an_archive_that_is_not_configured(sources, make_settings):
    for settings in (make_settings(), make_settings(dicom_sources=sources)):
        with pytest.raises(BatchError):
            await listed(settings, "dicomweb:other")
