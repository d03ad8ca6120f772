"""`llmcxr deliveries` works on the queue's database, with or without the gateway."""

import pytest
from tests.service.deliveries.conftest import radiograph
from tests.service.deliveries.test_queue import ARCHIVE
from typer.testing import CliRunner

from llmcxr_service.__main__ import app


@pytest.fixture
def command(tmp_path, database, monkeypatch):
    monkeypatch.setenv("LLMCXR_SPOOL", str(tmp_path / "spool"))
    if database:
        monkeypatch.setenv("LLMCXR_DELIVERIES_DATABASE", database)

    def run(*words):
        return CliRunner().invoke(app, ["deliveries", *words])

    return run


async def test_a_dead_delivery_is_sent_again(start_delivering, archive, archive_url, command):
    archive.faults.append(400)
    destination = ARCHIVE.format(url=archive_url)
    async with start_delivering(destination) as running:
        await running.store(radiograph())
        (dead,) = await running.until(state="dead")
    # The gateway is down now.
    listed = command("list", "--state", "dead")
    assert listed.exit_code == 0
    assert dead["id"] in listed.output
    assert "refused" in listed.output
    assert "refused" in command("show", dead["id"]).output
    assert "1 to be sent" in command("resend", "--dead").output
    assert dead["id"] not in command("list", "--state", "dead").output
    async with start_delivering(destination) as running:
        await running.until(state="done", target="archive")
    assert len(archive.instances) == 1


async def test_discard(start_delivering, archive, archive_url, command):
    archive.faults.append(400)
    async with start_delivering(ARCHIVE.format(url=archive_url)) as running:
        await running.store(radiograph())
        (dead,) = await running.until(state="dead")
    assert command("discard", dead["id"]).exit_code == 0
    assert dead["id"] in command("list", "--state", "discarded").output
    wrong = command("discard", "0" * 32 + ".archive")
    assert wrong.exit_code == 1
    assert "no such delivery" in wrong.output.lower()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_without_a_queue(command):
    answer = command("list")
    assert answer.exit_code == 1
    assert "no queue" in answer.output.lower()


def test_a_database_that_is_away_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCXR_SPOOL", str(tmp_path))
    monkeypatch.setenv(
        "LLMCXR_DELIVERIES_DATABASE", f"postgresql://user:s3cret@/none?host={tmp_path}"
    )
    answer = CliRunner().invoke(app, ["deliveries", "list"])
    assert answer.exit_code == 1
    assert "s3cret" not in answer.output
    assert "cannot be used" in answer.output
