"""Two gateways on one PostgreSQL queue: what a dead one had in work, the other one does."""

import os
import time

import psycopg
import pytest
from tests.service.deliveries.conftest import radiograph
from tests.service.deliveries.test_queue import ARCHIVE

from llmcxr_service.deliveries.replicas import SILENT_SECONDS, Replicas


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_silent_replicas_work_is_taken_over(
    start_delivering, archive, archive_url, database, tmp_path
):
    archive.faults.extend([503] * 10_000)
    destination = ARCHIVE.format(url=archive_url)
    async with start_delivering(destination, replica="one") as running:
        await running.store(radiograph())
        await running.until(state="done", target="draft")
    # It ended in the middle of an attempt, and never comes back.
    with psycopg.connect(database, autocommit=True) as connection:
        changed = connection.execute(
            "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'one'"
            " WHERE name = 'send' AND status IN ('ENQUEUED', 'DELAYED', 'PENDING')"
        )
        assert changed.rowcount == 1
    archive.faults.clear()
    sign = tmp_path / "spool" / "replicas" / "one"
    past = time.time() - SILENT_SECONDS - 60
    os.utime(sign, (past, past))
    async with start_delivering(destination, replica="two") as running:
        await running.until(state="done", target="archive")
    assert len(archive.instances) == 1
    assert not sign.exists()


def test_a_name_is_no_path(tmp_path):
    with pytest.raises(ValueError, match="name"):
        Replicas(tmp_path, "../one")
