"""Content negotiation."""

import pytest

from llmcxr_service.accept import negotiate
from llmcxr_service.errors import NotAcceptable

OFFERS = ("application/json", "text/plain")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("*", "application/json"),
        ("text/plain", "text/plain"),
        ("TEXT/Plain; charset=utf-8", "text/plain"),
        ("text/*", "text/plain"),
        ("text/plain;q=0.5, application/json;q=0.4", "text/plain"),
        ("text/plain;q=0.5, */*;q=0.6", "application/json"),
        ("*/*, application/json;q=0", "text/plain"),
        ("text/plain, application/json", "application/json"),  # equal: the server's choice
        ("image/png, text/plain;q=0.1", "text/plain"),
        ("application/json;q=nonsense, text/plain;q=0.1", "text/plain"),
        ("nonsense", "application/json"),
        (", ,text/plain,", "text/plain"),
    ],
)
def test_best_offer(accept, expected):
    assert negotiate(accept, OFFERS) == expected


@pytest.mark.parametrize(
    "accept", ["image/png", "text/plain;q=0, application/json;q=0.0", "*/*;q=0", "text/html;q=7"]
)
def test_nothing_acceptable(accept):
    with pytest.raises(NotAcceptable):
        negotiate(accept, OFFERS)
