"""What a refusal says, what it does not, and what nobody has to say who they are for."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service.access.conftest import Trusted, bearer
from tests.service.access.issuer import settings_for
from tests.service.conftest import Gateway, StartGateway

from llmcxr_service.access.callers import Scope
from llmcxr_service.audit_log import verify
from llmcxr_service.observability import JsonFormatter


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/openapi.json", "/docs"])
async def test_open_routes(closed: Gateway, path: str) -> None:
    assert (await closed.client.get(path)).status_code == 200


async def test_unknown_paths_are_unknown_to_everybody(closed: Gateway) -> None:
    assert (await closed.client.get("/nowhere")).status_code == 404


async def test_other_methods_tell_strangers_nothing(closed: Gateway) -> None:
    assert (await closed.client.get("/generate-report")).status_code == 401
    assert (await closed.client.options("/generate-report")).status_code == 401


async def test_challenges(closed: Gateway, make_key: Callable[..., str]) -> None:
    none = await closed.client.get("/metrics")
    assert none.headers["www-authenticate"] == 'Bearer realm="llmcxr"'
    assert none.json()["reason"] == "no-credentials"
    bad = await closed.client.get("/metrics", headers=bearer("x"))
    assert bad.headers["www-authenticate"] == 'Bearer realm="llmcxr", error="invalid_token"'
    key = make_key(Scope.ADMIN)
    lacking = await closed.client.get("/metrics", headers=bearer(key))
    assert lacking.headers["www-authenticate"] == (
        'Bearer realm="llmcxr", error="insufficient_scope", scope="metrics:read"'
    )


async def test_two_headers_are_refused(closed: Gateway, make_key: Callable[..., str]) -> None:
    value = f"Bearer {make_key()}"
    headers = [("Authorization", value), ("Authorization", value)]
    answer = await closed.client.get("/model", headers=headers)
    assert answer.json()["reason"] == "malformed-credentials"


async def test_a_query_parameter_is_no_credential(
    closed: Gateway, make_key: Callable[..., str]
) -> None:
    key = make_key()
    for name in ("access_token", "key", "token"):
        assert (await closed.client.get("/model", params={name: key})).status_code == 401


async def test_a_body_is_not_read_for_strangers(closed: Gateway) -> None:
    sent: list[int] = []

    async def receive() -> dict[str, object]:
        sent.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    answers: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/generate-report",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-length", b"60000000")],
    }
    await closed.app(scope, receive, send)
    assert answers[0]["status"] == 401
    assert (b"connection", b"close") in answers[0]["headers"]
    assert sent == []


async def test_no_secret_and_no_name_in_logs_metrics_or_answers(
    start_gateway: StartGateway,
    trusted: Trusted,
    keys: Path,
    make_key: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    key = make_key(Scope.REPORT)
    secret = key.split("_")[2]
    issuer = trusted.issuer
    canaries = {
        key: secret,
        key[:-1]: secret[:20],
        issuer.token(): "SMITH",
        issuer.token(aud="CANARY-AUDIENCE"): "CANARY",
        issuer.token(iss="CANARY-ISSUER"): "CANARY",
        issuer.token(kid="CANARY-KID"): "CANARY",
        issuer.token(scope="CANARY-SCOPE"): "CANARY",
        "CANARY-NO-TOKEN": "CANARY",
    }
    async with start_gateway(**settings_for(trusted.url), keys=keys) as gateway:
        answers = [
            await gateway.client.get(path, headers=bearer(credentials))
            for credentials in canaries
            for path in ("/metrics", "/deliveries", "/nowhere")
        ]
        metrics = await gateway.client.get("/metrics", headers=bearer(make_key(Scope.METRICS)))
    assert metrics.status_code == 200
    logged = "\n".join(JsonFormatter().format(r) + r.getMessage() for r in caplog.records)
    told = "\n".join(f"{answer.text} {dict(answer.headers)}" for answer in answers)
    for credentials, word in canaries.items():
        for text in (logged, told, metrics.text):
            assert credentials not in text
            assert word not in text


async def test_whoever_lacks_a_scope_is_in_the_audit_log(
    start_gateway: StartGateway, keys: Path, make_key: Callable[..., str], tmp_path: Path
) -> None:
    key, audit = make_key(Scope.IMAGE), tmp_path / "audit"
    async with start_gateway(open=False, keys=keys, audit=audit) as gateway:
        allowed = await gateway.client.get("/model", headers=bearer(key))
        refused = await gateway.client.post("/instruct", json={}, headers=bearer(key))
        unknown = await gateway.client.post("/instruct", json={}, headers=bearer("nobody"))
        statuses = [answer.status_code for answer in (allowed, refused, unknown)]
        assert statuses == [200, 403, 401]
    lines = (audit / "audit-local.jsonl").read_text().splitlines()
    agents = [json.loads(line)["agent"][0]["who"] for line in lines]
    assert agents[0] == agents[1]
    assert "identifier" in agents[0]
    assert agents[2] == {"display": "anonymous"}
    assert json.loads(lines[1])["outcomeDesc"] == "403 scope"
    assert not any(verdict.complaint for verdict in verify(audit))
