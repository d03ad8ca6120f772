"""The table of errors, and the framework's own errors as problems."""

from collections.abc import Iterator

import pytest

import llmcxr_service.errors  # noqa: F401 - its classes must be loaded to be walked
from llmcxr_models.errors import CxrError, DigestMismatch
from llmcxr_service.problems import KINDS, error_response


def descendants(cls: type) -> Iterator[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from descendants(child)


def test_every_error_has_a_status():
    ours = {c for c in descendants(CxrError) if c.__module__.startswith("llmcxr_")}
    assert ours - KINDS.keys() == set()


def test_internal_errors_tell_nothing():
    response = error_response(DigestMismatch("secret.safetensors is another one."), "id")
    assert response.status_code == 500
    assert b"secret" not in response.body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/SMITH^JOHN", 404),
        ("GET", "/generate-report/", 404),
        ("GET", "/generate-report", 405),
        ("DELETE", "/model", 405),
    ],
)
async def test_the_frameworks_errors_are_problems_too(gateway, method, path, status):
    response = await gateway.client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["type"].startswith("/problems/")
    assert "SMITH" not in response.text


async def test_allow_header_is_kept(gateway):
    response = await gateway.client.get("/generate-report")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/jobs", "GET, POST"), ("/jobs/1", "DELETE, GET"), ("/generate-image", "POST")],
)
async def test_a_wrong_method_is_told_all_right_ones(gateway, path, methods):
    response = await gateway.client.options(path)
    assert (response.status_code, response.headers["allow"]) == (405, methods)
