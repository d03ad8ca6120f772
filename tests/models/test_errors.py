"""The error tree: drawn as it is, and each class with a reason of its own."""

from __future__ import annotations

import pytest

from llmcxr_models import errors
from llmcxr_models.errors import CxrError, GeneratorUnavailable, InvalidRadiograph


def _descendants(kind: type[CxrError]) -> list[type[CxrError]]:
    return [k for child in kind.__subclasses__() for k in (child, *_descendants(child))]


def _ours() -> list[type[CxrError]]:
    return [kind for kind in _descendants(CxrError) if kind.__module__ == errors.__name__]


def test_every_class_is_in_the_drawing() -> None:
    assert errors.__doc__ is not None
    for kind in _ours():
        assert f"-- {kind.__name__}" in errors.__doc__


@pytest.mark.parametrize("kind", _ours())
def test_every_class_has_its_own_reason(kind: type[CxrError]) -> None:
    assert "default_reason" in vars(kind)
    assert kind("Something happened.").reason == kind.default_reason
    assert kind("Something happened.", reason="other").reason == "other"


def test_reasons_differ() -> None:
    reasons = [kind.default_reason for kind in _ours()]
    assert len(set(reasons)) == len(reasons)


def test_message_and_retry() -> None:
    assert str(InvalidRadiograph("It is damaged.")) == "It is damaged."
    assert GeneratorUnavailable("Away.", retry_after_seconds=9).retry_after_seconds == 9
