"""Batches from submission to results, through a queue in SQLite and in PostgreSQL."""

import asyncio
import json
import sqlite3
import stat
import time
from contextlib import closing

import pytest
from tests import pictures
from tests.fakes import Fault
from tests.service.jobs.conftest import until

from llmcxr_service.jobs.store import Job, JobState, JobStore, Result, Submission, Task


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("cluster").new_database()


async def test_a_batch_of_images(start_working, database):
    async with start_working(deliveries_database=database) as working:
        submitted = await working.draw("No effusion.", "Cardiomegaly.", "Clear lungs.")
        assert submitted.status_code == 202, submitted.text
        name = submitted.json()["id"]
        assert submitted.headers["location"] == f"/jobs/{name}"
        job = await working.until_ended(name)
        assert job["state"] == "completed"
        assert job["progress"] == {"items": 3, "done": 3, "failed": 0, "pending": 0}
        assert [item["state"] for item in job["items"]] == ["done"] * 3
        assert job["expires"] > job["finished"]
        results = [
            (await working.gateway.client.get(f"/jobs/{name}/results/{n}")).json() for n in range(3)
        ]
        assert len({result["images"][0]["png_base64"] for result in results}) == 3
        listed = (await working.gateway.client.get("/jobs")).json()["jobs"]
        assert [each["id"] for each in listed] == [name]
        done = {"task": "generate-image", "outcome": "done"}
        assert await working.gateway.metric("llmcxr_job_items_total", **done) == 3


async def test_an_item_is_answered_as_its_request_would_be(start_working):
    item = {"report": "Cardiomegaly.", "seed": 7}
    async with start_working() as working:
        body = {"task": "generate-image", "items": [item]}
        submitted = await working.gateway.client.post("/jobs", json=body)
        name = submitted.json()["id"]
        await working.until_ended(name)
        result = (await working.gateway.client.get(f"/jobs/{name}/results/0")).json()
        headers = {"Accept": "application/json"}
        post = working.gateway.client.post
        direct = (await post("/generate-image", json=item, headers=headers)).json()
    assert result["images"] == direct["images"]
    assert result["model"] == direct["model"]


async def test_a_batch_of_radiographs(start_working):
    files = [("file", (f"{n}.dcm", pictures.dicom(n))) for n in range(2)]
    files.append(("file", ("broken", b"\x89PNG broken")))
    async with start_working() as working:
        post = working.gateway.client.post
        submitted = await post("/jobs", files=files, data={"indication": "Cough.", "seed": "3"})
        assert submitted.status_code == 202, submitted.text
        name = submitted.json()["id"]
        job = await working.until_ended(name)
        assert [item["state"] for item in job["items"]] == ["done", "done", "failed"]
        problem = job["items"][2]["problem"]
        assert problem["type"] == "/problems/unsupported-media"
        result = (await working.gateway.client.get(f"/jobs/{name}/results/0")).json()
        assert result["seed"] == 3
        failed = await working.gateway.client.get(f"/jobs/{name}/results/2")
        assert (failed.status_code, failed.json()["reason"]) == (404, "item-failed")


async def test_what_passes_is_tried_again(start_working, vllm):
    vllm.faults.extend([Fault.BUSY, Fault.SERVER_ERROR])
    async with start_working(jobs_concurrency=1) as working:
        name = (await working.draw("Cardiomegaly.")).json()["id"]
        job = await working.until_ended(name)
        assert job["progress"]["done"] == 1
        retry = {"task": "generate-image", "outcome": "retry"}
        assert await working.gateway.metric("llmcxr_job_items_total", **retry) >= 1


async def test_a_job_outlives_the_gateway(start_working, vllm, database):
    vllm.delay_seconds = 0.3
    async with start_working(jobs_concurrency=1, deliveries_database=database) as working:
        name = (await working.draw(*["Cardiomegaly."] * 4)).json()["id"]
        await working.until(name, lambda job: job["progress"]["done"] >= 1)
    async with start_working(jobs_concurrency=4, deliveries_database=database) as working:
        job = await working.until_ended(name)
        assert job["progress"]["done"] == 4


async def test_cancel_and_remove(start_working, vllm, database):
    vllm.delay_seconds = 30.0
    async with start_working(jobs_concurrency=1, deliveries_database=database) as working:
        name = (await working.draw("Cardiomegaly.", "No effusion.")).json()["id"]
        await until(lambda: vllm.running > 0)
        cancelled = await working.gateway.client.delete(f"/jobs/{name}")
        assert cancelled.status_code == 202
        assert cancelled.json()["state"] == "cancelled"
        await until(lambda: vllm.running == 0)
        job = await working.job(name)
        assert [item["state"] for item in job["items"]] == ["cancelled"] * 2
        assert (await working.gateway.client.delete(f"/jobs/{name}")).status_code == 204
        assert (await working.gateway.client.get(f"/jobs/{name}")).status_code == 404
        assert not (working.spool / "batches" / name).exists()


async def test_payloads_are_ours_alone_and_inputs_go_with_the_end(start_working, vllm):
    vllm.delay_seconds = 0.5
    async with start_working() as working:
        name = (await working.draw("Cardiomegaly of Mrs Doe.")).json()["id"]
        directory = working.spool / "batches" / name
        assert (directory / "inputs").exists()
        for path in (working.spool / "batches").rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600)
        await working.until_ended(name)
        assert not (directory / "inputs").exists()
        assert not (directory / "options").exists()
        database = (working.spool / "queue.sqlite").read_bytes()
        assert b"Mrs Doe" not in database


async def test_old_jobs_are_removed(start_working):
    async with start_working(jobs_retention_hours=1e-7) as working:
        name = (await working.draw("Cardiomegaly.")).json()["id"]
        await working.until_ended(name)
        await asyncio.sleep(0.01)
        await asyncio.to_thread(working.gateway.app.state.runtime.jobs.sweep)
        assert (await working.gateway.client.get(f"/jobs/{name}")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"task": "generate-image", "items": []},
        {"task": "generate-image", "items": [{"report": "x", "url": "http://x"}]},
        {"task": "other", "items": [{"report": "x"}]},
        {"task": "generate-report", "items": [{"report": "x"}]},
        {"task": "generate-image", "items": [{"report": "x"}], "webhook": "http://x"},
        {"task": "generate-image", "items": [{"report": "x"}], "webhook": "unknown"},
        {"task": "generate-image", "items": [{"report": "x"}] * 3},
    ],
)
async def test_what_is_refused(start_working, body):
    async with start_working(jobs_max_items=2) as working:
        answer = await working.gateway.client.post("/jobs", json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


async def test_there_is_an_end_of_waiting(start_working, vllm):
    vllm.delay_seconds = 30.0
    async with start_working(jobs_max_waiting=2) as working:
        assert (await working.draw("a", "b")).status_code == 202
        refused = await working.draw("c")
        assert refused.status_code == 503
        assert "retry-after" in refused.headers


async def test_unknown_ids(start_working, gateway):
    disabled = await gateway.client.get("/jobs")
    assert (disabled.status_code, disabled.json()["reason"]) == (404, "jobs-disabled")
    async with start_working() as working:
        for path in ("/jobs/nothing", f"/jobs/{'0' * 32}", f"/jobs/{'0' * 32}/results/0"):
            assert (await working.gateway.client.get(path)).status_code == 404


def test_the_first_end_and_the_first_result_stay(tmp_path):
    store = JobStore(tmp_path)
    job = Job("0" * 32, "generate-image", ((0, 2), (2, 3)), "", "", "", time.time())
    submission = Submission(Task.IMAGE, (b"{}", b"{ }"), None, "")
    assert store.create(job, submission)
    assert not store.create(job, submission)
    assert store.item(job.id, 1).data == b"{ }"
    assert store.put_result(job.id, 0, Result(200, "application/json", b"1\n2"))
    assert not store.put_result(job.id, 0, Result(200, "application/json", b"3"))
    assert store.result(job.id, 0).body == b"1\n2"
    store.finish(job.id, JobState.CANCELLED)
    store.finish(job.id, JobState.COMPLETED)
    assert store.finished(job.id)[0] is JobState.CANCELLED
    assert store.item(job.id, 1) is None
    assert json.loads((tmp_path / "batches" / job.id / "job").read_bytes())["id"] == job.id


async def test_work_that_nobody_works_on_is_taken_up_again(start_working):
    """As it is when the database does not take what became of an attempt."""
    async with start_working() as working:
        name = (await working.draw("Cardiomegaly.")).json()["id"]
        await working.until_ended(name)
        with closing(sqlite3.connect(working.spool / "queue.sqlite", timeout=30.0)) as database:
            item = f"batch.{name}.0.1"
            with database:
                database.execute("DELETE FROM operation_outputs WHERE workflow_uuid = ?", (item,))
                changed = database.execute(
                    "UPDATE workflow_status SET status = 'PENDING' WHERE workflow_uuid = ?", (item,)
                )
            assert changed.rowcount == 1

            def state():
                found = database.execute(
                    "SELECT status FROM workflow_status WHERE workflow_uuid = ?", (item,)
                )
                return found.fetchone()[0]

            await until(lambda: state() == "SUCCESS")


async def test_a_job_that_is_kept_gets_into_a_queue_that_is_locked_later(start_working):
    async with start_working() as working:
        with closing(sqlite3.connect(working.spool / "queue.sqlite", timeout=30.0)) as database:
            database.isolation_level = None
            database.execute("BEGIN EXCLUSIVE")
            submitted = await working.draw("Cardiomegaly.")
            assert submitted.status_code == 202
            database.rollback()
        job = await working.until_ended(submitted.json()["id"])
        assert job["progress"]["done"] == 1
