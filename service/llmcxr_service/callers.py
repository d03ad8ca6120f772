"""Who a request comes from, as authentication has noted it in the request's state."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from llmcxr_service.access.callers import Scope
from llmcxr_service.errors import Forbidden


def caller_id(request: Request) -> str:
    """The caller's id; empty where nobody has to say who they are."""
    return id_in(request.scope.get("state", {}))


def id_in(state: dict[str, Any]) -> str:
    """The same from the state of an ASGI scope."""
    caller = state.get("caller")
    return "" if caller is None else str(caller.id)


def may(request: Request, scope: Scope) -> None:
    """Refuse whoever lacks a scope that only the body tells.

    Raises:
        Forbidden: the caller has not this scope.
    """
    if scope not in request.state.caller.scopes:
        raise Forbidden("The caller may not do this.", scopes=frozenset({scope}))
