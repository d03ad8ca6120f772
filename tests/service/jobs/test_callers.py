"""Jobs, idempotency keys and audit events belong to whoever has the credentials."""

import asyncio
import json

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key
from llmcxr_service.access.keys import new_key
from llmcxr_service.audit_log import verify

JOB = {"task": "generate-image", "items": [{"report": "Cardiomegaly."}]}


@pytest.fixture
def make_key(tmp_path):
    def make(*scopes):
        text, key = new_key("somebody", scopes)
        add_key(tmp_path / "keys.json", key)
        return {"Authorization": f"Bearer {text}"}

    return make


async def test_callers_are_kept_apart(start_working, make_key, tmp_path):
    mine, other = make_key(Scope.IMAGE), make_key(Scope.IMAGE)
    reporter = make_key(Scope.REPORT)
    settings = {"open": False, "keys": tmp_path / "keys.json", "audit": tmp_path / "audit"}
    async with start_working(**settings) as working:
        client = working.gateway.client
        # 1. Who is nobody, and who may only have reports.
        assert (await client.post("/jobs", json=JOB)).status_code == 401
        refused = await client.post("/jobs", json=JOB, headers=reporter)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
        # 2. The same idempotency key of two callers is two keys.
        key = {"Idempotency-Key": "one"}
        names = [
            (await client.post("/jobs", json=JOB, headers={**who, **key})).json()["id"]
            for who in (mine, other, mine)
        ]
        assert names[0] == names[2] != names[1]
        # 3. Another one's job is none.
        for method, path in (("GET", ""), ("GET", "/results/0"), ("DELETE", "")):
            answer = await client.request(method, f"/jobs/{names[0]}{path}", headers=other)
            assert answer.status_code == 404
        listed = (await client.get("/jobs", headers=mine)).json()["jobs"]
        assert [job["id"] for job in listed] == [names[0]]
    # 4. In the audit log they are different, and none by its id.
    lines = (tmp_path / "audit" / "audit-local.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    agents = [event["agent"][0]["who"] for event in events]
    assert agents[0] == {"display": "anonymous"}
    hashes = [agent["identifier"]["value"] for agent in agents if "identifier" in agent]
    assert len(set(hashes)) == 3


async def test_items_are_in_the_audit_log_as_their_callers(start_working, make_key, tmp_path):
    mine, other = make_key(Scope.IMAGE), make_key(Scope.IMAGE)
    settings = {"open": False, "keys": tmp_path / "keys.json", "audit": tmp_path / "audit"}
    async with start_working(**settings) as working:
        client = working.gateway.client
        names = []
        for headers in (mine, other):
            name = (await client.post("/jobs", json=JOB, headers=headers)).json()["id"]
            names.append(name)
            async with asyncio.timeout(60):
                while not await _has_ended(client, name, headers):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    lines = (tmp_path / "audit" / "audit-local.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    submitted = [e for e in events if e["subtype"][0]["code"] == "POST /jobs"]
    items = {
        e["entity"][1]["what"]["identifier"]["value"]: e
        for e in events
        if e["subtype"][0]["code"] == "POST /generate-image"
    }
    assert set(items) == set(names)
    for name, submission in zip(names, submitted, strict=True):
        assert items[name]["agent"] == submission["agent"]
        assert "identifier" in items[name]["agent"][0]["who"]
        assert items[name]["type"]["code"] == "110100"
        AuditEvent.model_validate(items[name])
    assert not any(verdict.complaint for verdict in verify(tmp_path / "audit"))


async def _has_ended(client, name, headers):
    return (await client.get(f"/jobs/{name}", headers=headers)).json()["state"] != "running"
