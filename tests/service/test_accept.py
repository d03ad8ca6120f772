"""Content negotiation."""

from contextlib import suppress

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


PROFILES = (
    "application/json",
    "application/dicom; profile=a; transfer-syntax=1.2",
    "application/dicom; profile=b; transfer-syntax=1.2",
    'multipart/related; type="application/dicom"',
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/dicom", 1),
        ("application/dicom;profile=b", 2),
        ('Application/DICOM; Profile="B"; q=0.5', 2),
        ("application/dicom; transfer-syntax=*", 1),
        ("application/dicom; transfer-syntax=1.2; profile=b", 2),
        # The more exact range decides, whatever it says.
        ("application/dicom; profile=a; q=0.1, application/dicom; q=0.5", 2),
        ("application/dicom; profile=c, application/json; q=0.1", 0),
        ("application/json; profile=b", 0),  # no offer of that type has a profile
        ('multipart/related; type="application/dicom"', 3),
        ("multipart/related", 3),
        ('multipart/related; type="image/png", */*; q=0.1', 0),
        ("*/*", 0),
    ],
)
def test_parameters_tell_offers_of_a_type_apart(accept, expected):
    assert negotiate(accept, PROFILES) == PROFILES[expected]


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom; profile=c",
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50",
        'multipart/related; type="image/png"',
        'image/png; a=",application/json,"',
        "application/json; q=nan",
    ],
)
def test_parameters_that_nothing_has(accept):
    with pytest.raises(NotAcceptable):
        negotiate(accept, PROFILES)


@pytest.mark.parametrize("accept", [";", ";;,;", '"', '"' * 9999, "\\" * 9999, "a/b;" * 9999])
def test_nonsense_ends(accept):
    with suppress(NotAcceptable):
        assert negotiate(accept, PROFILES) in PROFILES
