"""Scopes, and callers that have been recognised."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do; none contains another."""

    REPORT = "report:generate"
    IMAGE = "image:generate"
    METRICS = "metrics:read"
    ADMIN = "admin"


Scopes = frozenset[Scope]
EVERY_SCOPE: Scopes = frozenset(Scope)


@dataclass(frozen=True)
class Caller:
    """Somebody whose credentials were accepted.

    Attributes:
        id: opaque, the same for every request; no name, no secret.
        scopes: what it may do.
    """

    id: str
    scopes: Scopes


ANYBODY = Caller("", EVERY_SCOPE)
"""Every caller of a service that is open: nobody in particular."""


def known_scopes(names: object) -> Scopes:
    """Scopes of a token's claim: words in one text, or a list of texts; others' are ignored."""
    words = names.split() if isinstance(names, str) else names
    if not isinstance(words, list):
        return frozenset()
    return frozenset(scope for scope in Scope if scope in words)
