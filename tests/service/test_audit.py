"""The audit log: what is in it, what is not, and that changes show."""

import json
import stat

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from tests import pictures
from typer.testing import CliRunner

from llmcxr_service.audit_command import app as command
from llmcxr_service.audit_log import AuditLog, Event, verify
from llmcxr_service.errors import AuditError


def events(directory):
    lines = (directory / "audit-local.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_requests_become_events(start_gateway, tmp_path):
    audit = tmp_path / "audit"
    async with start_gateway(audit=audit) as gateway:
        data = pictures.dicom(PatientID="ID-4711")
        files = {"file": ("DOE^JANE.dcm", data)}
        form = {"indication": "Cough of Mrs Doe."}
        post = gateway.client.post
        assert (await post("/generate-report", files=files, data=form)).status_code == 200
        assert (await post("/generate-image", json={"report": ""})).status_code == 422
        assert (await gateway.client.get("/no/Mrs-Doe")).status_code == 404
        await gateway.client.get("/health/live")
        digest = gateway.app.state.runtime.model.digest
    found = events(audit)
    assert [event["subtype"][0]["code"] for event in found] == [
        "POST /generate-report",
        "POST /generate-image",
        "GET other",
    ]
    assert [event["outcome"] for event in found] == ["0", "4", "4"]
    assert found[0]["entity"][0]["what"]["identifier"]["value"] == digest
    for event in found:
        AuditEvent.model_validate(event)
    text = (audit / "audit-local.jsonl").read_text()
    assert "Doe" not in text
    assert "4711" not in text
    for name in ("audit-local.jsonl", "audit-local.head", "key"):
        assert stat.S_IMODE((audit / name).stat().st_mode) == 0o600
    (verdict,) = verify(audit)
    assert (verdict.events, verdict.complaint) == (3, "")


def write(directory, count=5):
    log = AuditLog(directory, "local")
    for number in range(count):
        log.append(Event(f"r{number}", "POST", "/x", 200, caller="c", model="m", instance="1.2.3"))
    log.close()
    return directory / "audit-local.jsonl"


def test_identifiers_are_hashed_alike(tmp_path):
    write(tmp_path)
    first, second, *_ = events(tmp_path)
    who = first["agent"][0]["who"]["identifier"]["value"]
    assert who == second["agent"][0]["who"]["identifier"]["value"]
    assert first["entity"][1] == second["entity"][1]
    assert "1.2.3" not in (tmp_path / "audit-local.jsonl").read_text()
    AuditEvent.model_validate(first)


def test_the_chain_goes_on_after_a_restart_and_a_crash(tmp_path):
    path = write(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"half')
    write(tmp_path)
    (verdict,) = verify(tmp_path)
    assert (verdict.events, verdict.complaint) == (10, "")


def _change(lines):
    lines[1] = lines[1].replace(b'"POST /x"', b'"POST /y"')


@pytest.mark.parametrize(
    "tamper",
    [
        _change,
        lambda lines: lines.pop(1),
        lambda lines: lines.insert(2, lines[1]),
        lambda lines: lines.reverse(),
        lambda lines: lines.pop(),
        lambda lines: lines.clear(),
        lambda lines: lines.__setitem__(4, lines[4].replace(b'"0"', b'"4"')),
    ],
    ids=["changed", "removed", "doubled", "reversed", "cut", "emptied", "last-changed"],
)
def test_changes_show(tmp_path, tamper):
    path = write(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    tamper(lines)
    path.write_bytes(b"".join(lines))
    (verdict,) = verify(tmp_path)
    assert verdict.complaint
    assert CliRunner().invoke(command, ["verify", str(tmp_path)]).exit_code == 1


def test_the_command(tmp_path):
    assert CliRunner().invoke(command, ["verify", str(tmp_path)]).exit_code == 1
    write(tmp_path)
    done = CliRunner().invoke(command, ["verify"], env={"LLMCXR_AUDIT": str(tmp_path)})
    assert done.exit_code == 0
    assert "local: 5 events, whole" in done.output


def test_one_process_appends(tmp_path):
    log = AuditLog(tmp_path, "local")
    with pytest.raises(AuditError):
        AuditLog(tmp_path, "local")
    AuditLog(tmp_path, "other").close()
    log.close()


def test_it_must_be_usable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AuditError):
        AuditLog(tmp_path / "file", "local")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
