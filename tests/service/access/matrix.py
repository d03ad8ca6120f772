"""Every route that is not open, with every kind of credentials that must be refused.

    python -m tests.service.access.matrix

prints the table; status 1 where something was let in, or where good credentials were not.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table
from starlette.routing import Route
from tests.hostile.gateway import gateway_and_app
from tests.service.access.issuer import Issuer, rsa_key, settings_for
from tests.service.conftest import serve

from llmcxr_service.access.callers import EVERY_SCOPE, Scope, Scopes
from llmcxr_service.access.key_file import add_key, revoke_key
from llmcxr_service.access.keys import new_key
from llmcxr_service.access.table import OPEN, needed

GOOD = frozenset({"good key", "good token"})
FORBIDDEN = frozenset({"wrong scope, key", "wrong scope, token", "no scope, token"})


@dataclass(frozen=True)
class Cell:
    """One route with one kind of credentials.

    Attributes:
        method: of the request.
        path: of the route.
        kind: of the credentials.
        answer: of the service.
    """

    method: str
    path: str
    kind: str
    answer: httpx.Response

    @property
    def is_right(self) -> bool:
        """Whether it was refused, or let in, as it should be."""
        refused = self.answer.status_code in (401, 403)
        if self.kind in GOOD:
            return not refused
        expected = 403 if self.kind in FORBIDDEN else 401
        return self.answer.status_code == expected and "www-authenticate" in self.answer.headers


def guarded(app: FastAPI) -> Iterator[tuple[str, str, Scopes]]:
    """Method, path and scopes of every route that is not open."""
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            scopes = needed(method, getattr(route, "path", ""))
            if isinstance(route, Route) and scopes != OPEN:
                yield method, route.path, scopes


async def run_matrix(folder: Path) -> list[Cell]:
    """Start a gateway and an issuer, and ask for everything."""
    issuer, keys = Issuer(), folder / "keys.json"
    with serve(issuer) as url:
        async with gateway_and_app(
            **settings_for(url), keys=keys, spool=folder / "spool", rate_limit="off"
        ) as (client, app):
            return [
                Cell(method, path, kind, await _ask(client, method, path, credentials))
                for method, path, scopes in guarded(app)
                for kind, credentials in _kinds(issuer, keys, scopes).items()
            ]


async def _ask(
    client: httpx.AsyncClient, method: str, path: str, credentials: str | None
) -> httpx.Response:
    headers = {} if credentials is None else {"Authorization": credentials}
    return await client.request(method, re.sub(r"\{\w+\}", "1", path), headers=headers)


def _kinds(issuer: Issuer, keys: Path, scopes: Scopes) -> dict[str, str | None]:
    now = int(time.time())
    tokens = {
        "good token": issuer.token(scope=sorted(scopes)[0]),
        "expired": issuer.token(iat=now - 7200, exp=now - 3600),
        "wrong audience": issuer.token(aud="somebody-else"),
        "no audience": issuer.token(aud=None),
        "wrong issuer": issuer.token(iss="https://issuer.example.evil"),
        "no expiry": issuer.token(exp=None),
        "future nbf": issuer.token(nbf=now + 3600),
        "alg none": issuer.unsigned(),
        "key confusion": issuer.confused(),
        "wrong kid": issuer.token(kid="another"),
        "no kid": issuer.token(kid=None),
        "wrong signature": issuer.token(key=rsa_key()),
        "no scope, token": issuer.token(scope="openid profile"),
        "malformed token": issuer.token().rpartition(".")[0],
    }
    kinds: dict[str, str | None] = {kind: f"Bearer {token}" for kind, token in tokens.items()}
    kinds |= {f"{kind} key": f"Bearer {text}" for kind, text in _keys(keys, scopes).items()}
    others = EVERY_SCOPE - scopes
    if others:
        scope = sorted(others)[0]
        kinds["wrong scope, token"] = f"Bearer {issuer.token(scope=' '.join(sorted(others)))}"
        kinds["wrong scope, key"] = f"Bearer {_new(keys, scope)[0]}"
    return kinds | {
        "none": None,
        "malformed": "Bearer",
        "another scheme": "Basic bGxtY3hyOmxsbWN4cg==",
    }


def _keys(path: Path, scopes: Scopes) -> dict[str, str]:
    scope = sorted(scopes)[0]
    good, _ = _new(path, scope)
    revoked, identifier = _new(path, scope)
    revoke_key(path, identifier)
    expired, key = new_key("x", (scope,), expires=datetime.now(UTC) - timedelta(seconds=1))
    add_key(path, key)
    return {
        "good": good,
        "revoked": revoked,
        "expired": expired,
        "unknown": new_key("x", (scope,))[0],
        "malformed": good[:-1],
        # The id is no secret.
        "forged": good[:20] + "0" * 64,
    }


def _new(path: Path, scope: Scope) -> tuple[str, str]:
    text, key = new_key("x", (scope,))
    add_key(path, key)
    return text, key.id


def table(cells: list[Cell]) -> Table:
    """Routes down, kinds across would be too wide: one line for each kind, with its routes."""
    shown = Table("Credentials", "Routes", "Refused", "Statuses", "As it should be")
    for kind in dict.fromkeys(cell.kind for cell in cells):
        of_kind = [cell for cell in cells if cell.kind == kind]
        refused = sum(cell.answer.status_code in (401, 403) for cell in of_kind)
        statuses = ", ".join(sorted({str(cell.answer.status_code) for cell in of_kind}))
        right = sum(cell.is_right for cell in of_kind)
        shown.add_row(kind, str(len(of_kind)), str(refused), statuses, f"{right} of {len(of_kind)}")
    return shown


def figures(cells: list[Cell]) -> dict[str, int]:
    """For a report of the service's reliability."""
    bad = [cell for cell in cells if cell.kind not in GOOD]
    return {
        "routes": len({(cell.method, cell.path) for cell in cells}),
        "kinds": len({cell.kind for cell in bad}),
        "asked": len(bad),
        "refused": sum(cell.answer.status_code in (401, 403) for cell in bad),
        "good_credentials_refused": sum(c.kind in GOOD and not c.is_right for c in cells),
    }


def main() -> None:
    """Print the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        cells = asyncio.run(run_matrix(Path(folder)))
    console.print(table(cells))
    for name, value in figures(cells).items():
        console.print(f"{name}: {value}", highlight=False)
    sys.exit(0 if all(cell.is_right for cell in cells) else 1)


if __name__ == "__main__":
    main()
