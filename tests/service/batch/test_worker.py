"""One shard in this process, with a fake vLLM behind a real port."""

from __future__ import annotations

import asyncio

import pyarrow.parquet as parquet
import pytest
from pydicom import dcmread
from tests.fakes import Fault
from tests.pictures import PATIENT, dicom, huge_png, png
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.batch.listing import list_folder
from llmcxr_service.batch.plan import BatchOptions, write_plan
from llmcxr_service.batch.worker import ShardWorker, WorkerOptions, parts_of
from llmcxr_service.errors import ModelAway

UID = "1.2.826.0.1.3680043.8.498.7"


async def as_async(items):
    for item in items:
        yield item


@pytest.fixture
def folder(tmp_path):
    files = {
        "a.dcm": dicom(StudyInstanceUID=UID, SeriesInstanceUID=f"{UID}.1"),
        "b.png": png(),
        "c-anonymous.dcm": dicom(),
        "d-damaged": dicom()[:-900],
        "e-text": b"no picture",
        "f-hand.dcm": dicom(BodyPartExamined="HAND"),
        "g-huge.png": huge_png(),
        "h-again.png": png(1),
    }
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


@pytest.fixture
def plan(folder, tmp_path, checkpoint: Checkpoint):
    options = BatchOptions(
        str(folder), checkpoint.manifest.digest, seed=5, shard_size=6, structured_reports=True
    )
    return asyncio.run(write_plan(tmp_path / "run", options, as_async(list_folder(folder))))


@pytest.fixture
def start_worker(plan, make_settings, vllm):
    workers = []
    with serve(vllm.app()) as url:

        def start(patience=60.0, **changes):
            settings = make_settings(vllm_url=url, **changes)
            workers.append(ShardWorker(plan, settings, WorkerOptions(4, patience)))
            return workers[-1]

        yield start
        for worker in workers:
            worker.close()
            del worker._drafts


def rows_of(plan):
    return [
        row for part in parts_of(plan.directory) for row in parquet.read_table(part).to_pylist()
    ]


def test_each_radiograph_has_one_row_whatever_it_is(plan, start_worker, folder, checkpoint):
    work = start_worker()
    (folder / "h-again.png").unlink()
    assert work({"shard": 0})["drafted"] == 3
    assert work({"shard": 1})["missing"] == 1
    rows = rows_of(plan)
    assert [row["number"] for row in rows] == list(range(8))
    told = {row["path"].rsplit("/", 1)[1]: (row["status"], row["reason"]) for row in rows}
    assert told["a.dcm"] == told["b.png"] == told["c-anonymous.dcm"] == ("drafted", "")
    assert told["d-damaged"][0] == told["e-text"][0] == told["g-huge.png"][0] == "refused"
    assert told["e-text"][1] == "media-type"
    assert told["f-hand.dcm"] == ("refused", "body-part")
    assert told["h-again.png"] == ("missing", "unreadable")
    first = rows[0]
    assert (first["seed"], rows[1]["seed"]) == (5, 6)
    assert first["model_digest"] == checkpoint.manifest.digest
    assert first["findings"] or first["impression"]


def test_structured_reports_are_filed_beside_their_studies(plan, start_worker):
    start_worker()({"shard": 0})
    rows = rows_of(plan)
    assert [bool(row["structured_report"]) for row in rows] == [True] + [False] * 5
    report = dcmread(plan.directory / rows[0]["structured_report"])
    assert report.StudyInstanceUID == UID
    assert report.PatientName == PATIENT
    assert report.VerificationFlag == "UNVERIFIED"


def test_a_shard_that_is_done_is_not_done_again(plan, start_worker, vllm):
    work = start_worker()
    work({"shard": 0})
    asked = len(vllm.requests)
    assert not any(work({"shard": 0})[status] for status in ("drafted", "refused", "failed"))
    assert len(vllm.requests) == asked


def test_a_model_that_is_away_for_a_moment_costs_nothing(plan, start_worker, vllm):
    vllm.faults.extend([Fault.BUSY] * 2)
    assert start_worker()({"shard": 0})["drafted"] == 3


def test_a_model_that_stays_away_ends_the_run_and_writes_nothing(plan, start_worker, vllm):
    work = start_worker(patience=0.5)
    vllm.served_name = "another"
    work._drafts._runtime.inference.readiness._parts[0].doubt()
    with pytest.raises(ModelAway):
        work({"shard": 0})
    assert plan.remaining() == [0, 1]


def test_a_shard_on_which_workers_are_lost_is_given_up(plan, start_worker):
    for _ in range(3):
        plan.begin(0)
    assert start_worker()({"shard": 0})["failed"] == 6
    assert {row["reason"] for row in rows_of(plan)} == {"lost"}
