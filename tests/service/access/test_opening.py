"""What the service does not start with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.service.access.issuer import settings_for

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.opening import check_access, is_loopback, open_door, warn_of_access
from llmcxr_service.errors import AccessError
from llmcxr_service.settings import Settings


def test_it_is_closed_by_default() -> None:
    assert not open_door(Settings()).open


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway", "127.0.0.1.evil"])
def test_it_is_not_open_to_the_network_by_accident(host: str) -> None:
    with pytest.raises(AccessError, match="LLMCXR_OPEN_TO_NETWORK"):
        check_access(Settings(open=True, host=host))
    check_access(Settings(open=True, open_to_network=True, host=host))
    check_access(Settings(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_it_may_be_open_on_loopback(host: str) -> None:
    assert is_loopback(host)
    assert open_door(Settings(open=True, host=host)).open


def test_serve_ends_with_a_sentence(checkpoint_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
    ours = {
        "LLMCXR_OPEN": "true",
        "LLMCXR_HOST": "0.0.0.0",
        "LLMCXR_CHECKPOINT": str(checkpoint_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "llmcxr_service", "serve"],
        env=clean | ours,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "LLMCXR_OPEN_TO_NETWORK" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_audience": None},
        {"oidc_jwks_url": "http://issuer.example/keys"},
        {"oidc_jwks_url": "file:///etc/passwd"},
        {"oidc_jwks_url": "https://"},
        {"oidc_ca_file": Path("/nowhere")},
        {"tls_certificate": Path("/nowhere")},
        {"tls_clients": Path("/nowhere")},
        {"rate_limit_store": "s3cret"},
    ],
    ids=str,
)
def test_half_a_configuration_is_none(changes: dict[str, Any]) -> None:
    whole = settings_for("http://127.0.0.1:9")
    open_door(Settings(**whole))
    with pytest.raises(AccessError) as error:
        open_door(Settings(**{**whole, **changes}))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("name", ["HS256", "none", "RS256,HS256", "RS256,none", "rs256", ""])
def test_only_signatures_by_a_private_key(name: str) -> None:
    with pytest.raises(ValueError, match="oidc_algorithms"):
        Settings(oidc_algorithms=name)


@pytest.mark.parametrize("limit", ["0/minute", "x", "5 per hour", "5/minute;1/second"])
def test_rate_limits_are_of_one_form(limit: str) -> None:
    with pytest.raises(ValueError, match="rate_limit"):
        Settings(rate_limit=limit)


def test_doubts(keys: Path, make_key: Callable[..., str]) -> None:
    settings = Settings(keys=keys, host="10.0.0.7")
    assert ["Nobody" in warn_of_access(settings)[0], len(warn_of_access(settings))] == [True, 2]
    make_key(Scope.ADMIN)
    assert len(warn_of_access(settings)) == 1
    assert warn_of_access(Settings(keys=keys)) == []
    assert "LLMCXR_OPEN" in warn_of_access(Settings(open=True))[0]
