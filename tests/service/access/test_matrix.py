"""The authentication matrix, and that its table of routes is complete."""

from __future__ import annotations

from pathlib import Path

from starlette.routing import Mount, Route
from tests.service.access.matrix import GOOD, figures, run_matrix

from llmcxr_service.access.callers import EVERY_SCOPE
from llmcxr_service.access.refusals import REASONS
from llmcxr_service.access.table import OPEN, TABLE, needed, needed_by
from llmcxr_service.app import create_app
from llmcxr_service.settings import Settings


def test_every_route_is_in_the_table() -> None:
    routes = create_app(Settings()).routes
    assert len(routes) > 10
    for route in routes:
        assert isinstance(route, Route | Mount), "the table knows no such route"
        methods = route.methods if isinstance(route, Route) else {"*"}
        for method in methods or ():
            assert (method, route.path) in TABLE, f"{method} {route.path} needs a line"


def test_only_these_are_open() -> None:
    assert {path for (_, path), scopes in TABLE.items() if scopes == OPEN} == {
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/docs",
        "/docs/oauth2-redirect",
        "/static-offline-docs",
    }


def test_what_is_not_in_the_table_needs_admin() -> None:
    assert needed("POST", "/forgotten") == {"admin"}


def test_a_method_that_a_path_does_not_have_needs_a_caller() -> None:
    routes = create_app(Settings()).routes
    for method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        scope = {"type": "http", "method": method, "path": "/generate-report", "root_path": ""}
        assert needed_by(scope, routes) == EVERY_SCOPE
    scope = {"type": "http", "method": "GET", "path": "/nowhere", "root_path": ""}
    assert needed_by(scope, routes) == OPEN


async def test_everything_wrong_is_refused_and_nothing_right_is(tmp_path: Path) -> None:
    cells = await run_matrix(tmp_path)
    wrong = [(c.method, c.path, c.kind, c.answer.status_code) for c in cells if not c.is_right]
    assert wrong == []
    found = figures(cells)
    assert found["routes"] >= 12
    assert found["kinds"] >= 20
    assert found["refused"] == found["asked"]
    for cell in cells:
        if cell.kind not in GOOD:
            problem = cell.answer.json()
            assert cell.answer.headers["content-type"] == "application/problem+json"
            assert problem["reason"] in REASONS | {"scope"}
            assert problem["request_id"]
