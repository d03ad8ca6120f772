"""What openapi.json says of credentials: schemes, who needs which, and the refusals."""

from __future__ import annotations

from typing import Any

from llmcxr_service.access.callers import EVERY_SCOPE
from llmcxr_service.access.table import OPEN, needed
from llmcxr_service.problems import MEDIA_TYPE

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`llmcxr_...`), or a JSON web token of the configured issuer.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate that the configuration knows.",
    },
}
_CHALLENGE = {
    "WWW-Authenticate": {"description": "RFC 6750 challenge.", "schema": {"type": "string"}}
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
}
_REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "401": ("No credentials, or none that are accepted.", _CHALLENGE),
    "403": ("The caller has not the scope.", _CHALLENGE),
    "429": ("The caller asks too often.", _RETRY_AFTER),
    "503": ("Tokens cannot be checked at the moment.", _RETRY_AFTER),
}


def add_access(document: dict[str, Any], problem: str) -> None:
    """Complete an OpenAPI document.

    Args:
        document: as the framework made it.
        problem: reference to the schema of a problem.
    """
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _describe(operation, method.upper(), path, problem)


def _describe(operation: dict[str, Any], method: str, path: str, problem: str) -> None:
    scopes = needed(method, path)
    if scopes == OPEN:
        operation["security"] = []
        return
    # Roles of a scheme that is not oauth2 may be named since OpenAPI 3.1; they mean all of them.
    roles = sorted(scopes) if len(scopes) == 1 else []
    operation["security"] = [{scheme: roles} for scheme in _SCHEMES]
    any_of = "any scope" if scopes == EVERY_SCOPE else " or ".join(f"`{s}`" for s in sorted(scopes))
    text = operation.get("description", "").rstrip()
    operation["description"] = f"{text}\n\nNeeds {any_of}.".lstrip()
    content = {MEDIA_TYPE: {"schema": {"$ref": problem}}}
    for status, (description, headers) in _REFUSALS.items():
        answer = operation["responses"].setdefault(
            status, {"description": description, "content": content}
        )
        answer["headers"] = {**answer.get("headers", {}), **headers}
