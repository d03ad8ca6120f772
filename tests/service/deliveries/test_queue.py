"""From a received instance to the archive, through a queue in SQLite and in PostgreSQL."""

import asyncio
import io
import os
import stat
from functools import partial

import pydicom
import pytest
from tests import pictures
from tests.fakes import Fault
from tests.service.deliveries.conftest import radiograph

from llmcxr_service.deliveries.destinations import Destinations, QueueOptions
from llmcxr_service.deliveries.service import sweep_queue
from llmcxr_service.deliveries.spool import Spool

ARCHIVE = """
[[destinations]]
name = "archive"
kind = "stow"
url = "{url}"
"""


async def test_the_report_is_filed_beside_its_source(start_delivering, archive, archive_url):
    data = radiograph()
    source = pydicom.dcmread(io.BytesIO(data))
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        assert (await running.store(data)).status_code == 200
        await running.until(state="done", target="archive")
        registry = running.gateway.app.state.runtime.metrics.registry
        labels = {"target": "archive", "outcome": "done"}
        assert registry.get_sample_value("llmcxr_delivery_attempts_total", labels) == 1
    (stored,) = archive.instances.values()
    report = pydicom.dcmread(io.BytesIO(stored.data))
    assert report.Modality == "SR"
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.PatientID == source.PatientID
    assert stored.sources == (source.SOPInstanceUID,)


async def test_the_same_instance_again_is_worked_on_once(
    start_delivering, archive, archive_url, vllm
):
    data = radiograph()
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        for _ in range(3):
            assert (await running.store(data)).status_code == 200
        await running.until(state="done", target="archive")
        assert (await running.store(data)).status_code == 200
        await asyncio.sleep(0.3)
        assert len(await running.deliveries()) == 2
    assert archive.posts == 1
    assert len(archive.instances) == 1


async def test_passing_failures_are_tried_again(start_delivering, archive, archive_url):
    archive.faults.extend([500, 503])
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        (done,) = await running.until(state="done", target="archive")
        answer = await running.gateway.client.get(f"/deliveries/{done['id']}")
    history = answer.json()["deliveries"]
    assert [(e["state"], e["reason"]) for e in history] == [
        ("failed", "server-error"),
        ("failed", "overloaded"),
        ("done", ""),
    ]


async def test_what_the_archive_forgets_is_sent_again(start_delivering, archive, archive_url):
    archive.lost = 1
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        (done,) = await running.until(state="done", target="archive")
    assert done["attempt"] == 2
    assert len(archive.instances) == 1


async def test_a_refusal_is_given_up_and_can_be_sent_again(start_delivering, archive, archive_url):
    archive.faults.append(400)
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        (dead,) = await running.until(state="dead")
        assert (dead["target"], dead["reason"]) == ("archive", "refused")
        assert archive.instances == {}
        assert (await running.post(f"/deliveries/{dead['id']}/resend")).status_code == 202
        await running.until(state="done", target="archive")
        assert await running.deliveries(state="dead") == []
    assert len(archive.instances) == 1


async def test_discarded_is_not_sent(start_delivering, archive, archive_url):
    archive.faults.append(400)
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        (dead,) = await running.until(state="dead")
        assert (await running.post(f"/deliveries/{dead['id']}/discard")).status_code == 202
        assert await running.deliveries(state="dead") == []
        (discarded,) = await running.until(state="discarded")
        assert discarded["id"] == dead["id"]
        # ... and taken back.
        await running.post(f"/deliveries/{dead['id']}/resend")
        await running.until(state="done", target="archive")


async def test_a_draft_waits_for_the_language_model(start_delivering, archive, archive_url, vllm):
    vllm.faults.extend([Fault.SERVER_ERROR])
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        await running.until(state="done", target="archive")
        (draft,) = [d for d in await running.deliveries() if d["target"] == "draft"]
    assert draft["attempt"] == 2


async def test_an_unusable_instance_is_given_up_at_once(start_delivering, archive_url, archive):
    data = radiograph(Rows=4000)  # its pixels end before they should
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        assert (await running.store(data)).status_code == 200
        (dead,) = await running.until(state="dead")
    assert (dead["target"], dead["reason"], dead["attempt"]) == ("draft", "unusable", 1)


async def test_a_restart_goes_on_where_it_was(start_delivering, archive, archive_url):
    archive.faults.extend([503] * 1000)
    destination = ARCHIVE.format(url=archive_url)
    async with start_delivering(destination) as running:
        await running.store(radiograph())
        await running.until(state="done", target="draft")
    archive.faults.clear()
    async with start_delivering(destination) as running:
        await running.until(state="done", target="archive")
    assert len(archive.instances) == 1
    assert archive.changed == 0


async def test_a_destination_that_is_gone_is_given_up(start_delivering, archive, archive_url):
    archive.faults.extend([503] * 1000)
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        await running.until(state="done", target="draft")
    other = ARCHIVE.format(url=archive_url).replace("archive", "other")
    async with start_delivering(other, ("other",)) as running:
        (dead,) = await running.until(state="dead")
        assert (dead["target"], dead["reason"]) == ("archive", "no-destination")


async def test_unknown_deliveries_are_404(start_delivering, archive_url):
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        for wrong in ("nonsense", "0" * 32 + ".archive", "0" * 32 + ".%25"):
            for method, path in (("GET", ""), ("POST", "/resend"), ("POST", "/discard")):
                answer = await running.gateway.client.request(method, f"/deliveries/{wrong}{path}")
                assert answer.status_code == 404
                assert answer.headers["content-type"] == "application/problem+json"
        answer = await running.gateway.client.get("/deliveries", params={"state": "lost"})
        assert answer.status_code == 422
        # An attempt that failed is part of a delivery's history, never the newest of it.
        answer = await running.gateway.client.get("/deliveries", params={"state": "failed"})
        assert (answer.status_code, answer.json()) == (200, {"deliveries": []})


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_files_are_for_our_eyes_only(start_delivering, archive, archive_url, tmp_path):
    archive.faults.extend([503] * 1000)
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        await running.until(state="done", target="draft")
    paths = list((tmp_path / "spool").rglob("*"))
    assert paths
    for path in paths:
        allowed = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == allowed, path
        assert pictures.PATIENT_ID not in path.name
        if path.name in ("queue.sqlite", "key"):
            assert pictures.PATIENT_ID.encode() not in path.read_bytes()


async def test_what_is_done_and_old_is_forgotten(start_delivering, archive, archive_url, tmp_path):
    spool = tmp_path / "spool"
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        ledger = running.gateway.app.state.runtime.deliveries.ledger
        await running.store(radiograph(1))
        await running.until(state="done", target="archive")
        archive.faults.append(400)
        await running.store(radiograph(2))
        (dead,) = await running.until(state="dead")
        options = QueueOptions(retention_hours=1.0)
        sweep = partial(sweep_queue, ledger, Spool(spool), Destinations(queue=options))
        await asyncio.to_thread(sweep)
        assert len(list((spool / "jobs").iterdir())) == 2
        for job in (spool / "jobs").iterdir():
            os.utime(job, (0, 0))
        await asyncio.to_thread(sweep)
        # What was given up keeps its files until somebody decides.
        (kept,) = (spool / "jobs").iterdir()
        assert kept.name == dead["id"].split(".")[0]
        await running.post(f"/deliveries/{dead['id']}/discard")
        await asyncio.to_thread(sweep)
        assert list((spool / "jobs").iterdir()) == []
        # Nothing is left to be sent again, and that is said.
        (done,) = await running.until(state="done", target="archive")
        await running.post(f"/deliveries/{done['id']}/resend")
        (missing,) = await running.until(state="dead")
        assert missing["reason"] == "missing"
