"""A gateway that trusts an issuer and has keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.service.access.issuer import Issuer
from tests.service.conftest import Gateway, StartGateway, serve

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key
from llmcxr_service.access.keys import new_key


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def make_key(keys: Path) -> Callable[..., str]:
    def make(*scopes: Scope) -> str:
        text, key = new_key("somebody", scopes or tuple(Scope))
        add_key(keys, key)
        return text

    return make


@dataclass(frozen=True)
class Trusted:
    """An issuer that is running, and its address."""

    issuer: Issuer
    url: str


@pytest.fixture
def trusted() -> Iterator[Trusted]:
    issuer = Issuer()
    with serve(issuer) as url:
        yield Trusted(issuer, url)


@pytest.fixture
async def closed(start_gateway: StartGateway, keys: Path) -> AsyncIterator[Gateway]:
    async with start_gateway(open=False, keys=keys) as gateway:
        yield gateway


def bearer(credentials: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {credentials}"}
