"""API keys: their file, the command, and what a running gateway makes of changes."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.service.access.conftest import bearer
from tests.service.conftest import Gateway
from typer.testing import CliRunner

from llmcxr_service.__main__ import app as cli
from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key, revoke_key
from llmcxr_service.access.keys import KeyRing, new_key, read_keys
from llmcxr_service.errors import AccessError, Unauthenticated

Cli = Callable[..., str]


@pytest.fixture
def run(keys: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("LLMCXR_KEYS", str(keys))

    def call(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli, ["keys", *arguments])
        assert result.exit_code == status, result.output
        return result.stdout

    return call


def test_the_command_makes_lists_and_revokes(run: Cli, keys: Path) -> None:
    key = run("create", "workstation", "--scope", "report:generate", "--days", "30").strip()
    assert KeyRing(keys).recognise(key).scopes == {"report:generate"}
    identifier = key.split("_")[1]
    listed = run("list")
    assert identifier in listed
    assert "workstation" in listed
    assert "valid until" in listed
    run("revoke", identifier)
    assert "revoked" in run("list")
    with pytest.raises(Unauthenticated) as refused:
        KeyRing(keys).recognise(key)
    assert refused.value.cause == "key-revoked"


def test_a_key_is_shown_once_and_only_its_hash_is_kept(run: Cli, keys: Path) -> None:
    key = run("create", "x", "--scope", "admin").strip()
    secret = key.split("_")[2]
    assert len(secret) == 64
    assert secret not in keys.read_text()
    assert secret not in run("list")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600


def test_a_key_can_be_written_to_a_file_of_its_own(run: Cli, keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert run("create", "x", "--scope", "metrics:read", "-o", str(file)) == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KeyRing(keys).recognise(file.read_text().strip()).scopes == {"metrics:read"}
    # Never over another one, and then no key is made either.
    run("create", "x", "--scope", "admin", "-o", str(file), status=1)
    assert len(read_keys(keys).keys) == 1


def test_what_cannot_be_done_is_a_sentence(run: Cli, keys: Path) -> None:
    run("revoke", "0" * 12, status=1)
    run("create", "x", "--scope", "everything", status=2)
    run("create", "x", status=2)
    keys.write_text("no json")
    run("list", status=1)


def test_writers_do_not_lose_each_others_keys(keys: Path) -> None:
    made = [new_key("x", (Scope.ADMIN,))[1] for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: add_key(keys, key), made))
    assert {key.id for key in read_keys(keys).keys} == {key.id for key in made}
    assert not list(keys.parent.glob("*.new"))


def test_rights_that_were_given_to_the_file_stay(keys: Path) -> None:
    add_key(keys, new_key("x", (Scope.ADMIN,))[1])
    keys.chmod(0o640)
    add_key(keys, new_key("y", (Scope.ADMIN,))[1])
    assert stat.S_IMODE(keys.stat().st_mode) == 0o640


def test_an_expired_key_is_refused_from_its_time_on(keys: Path) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    text, key = new_key("x", (Scope.ADMIN,), expires=until)
    add_key(keys, key)
    assert KeyRing(keys, now=lambda: until - timedelta(seconds=1)).recognise(text)
    with pytest.raises(Unauthenticated) as refused:
        KeyRing(keys, now=lambda: until).recognise(text)
    assert refused.value.reason == "expired-credentials"


@pytest.mark.parametrize(
    "text", ["", "llmcxr_", "llmcxr_0_0", "llmcxr_" + "0" * 12 + "_" + "0" * 63, "llmcxr_é"]
)
def test_malformed_keys(keys: Path, text: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        KeyRing(keys).recognise(text)
    assert refused.value.cause == "malformed"


def test_a_broken_file_at_start_is_an_error_and_later_lets_nobody_in(keys: Path) -> None:
    text, key = new_key("x", (Scope.ADMIN,))
    add_key(keys, key)
    ring = KeyRing(keys)
    assert ring.recognise(text)
    keys.write_text(json.dumps({"keys": [{"id": 1}]}))
    with pytest.raises(Unauthenticated):
        ring.recognise(text)
    with pytest.raises(AccessError):
        KeyRing(keys)


async def test_new_and_revoked_keys_need_no_restart(
    closed: Gateway, keys: Path, make_key: Callable[..., str]
) -> None:
    assert (await closed.client.get("/model")).status_code == 401
    key = make_key(Scope.METRICS)
    assert (await closed.client.get("/model", headers=bearer(key))).status_code == 200
    assert (await closed.client.get("/deliveries", headers=bearer(key))).status_code == 403
    revoke_key(keys, key.split("_")[1])
    assert (await closed.client.get("/model", headers=bearer(key))).status_code == 401
    assert await closed.metric("llmcxr_access_refusals_total", cause="key-revoked") == 1
    assert await closed.metric("llmcxr_access_refusals_total", cause="scope") == 1
    assert await closed.metric("llmcxr_access_refusals_total", cause="missing") == 1
