"""Which scope each route needs: one table, and whatever is not in it needs `admin`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import Scope as Connection

from llmcxr_service.access.callers import EVERY_SCOPE, Scope, Scopes

OPEN: Scopes = frozenset()
"""Needs no credentials: tells nothing that is not public."""
KNOWN = EVERY_SCOPE
"""Any one of the scopes will do."""

_REPORT: Scopes = frozenset({Scope.REPORT})
_IMAGE: Scopes = frozenset({Scope.IMAGE})
_METRICS: Scopes = frozenset({Scope.METRICS})
_ADMIN: Scopes = frozenset({Scope.ADMIN})
_EITHER = _REPORT | _IMAGE

TABLE: dict[tuple[str, str], Scopes] = {
    # What probes and browsers ask before anybody has said who they are.
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("HEAD", "/openapi.json"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/docs/oauth2-redirect"): OPEN,
    ("*", "/static-offline-docs"): OPEN,
    ("GET", "/model"): KNOWN,
    ("GET", "/metrics"): _METRICS,
    ("POST", "/generate-report"): _REPORT,
    ("POST", "/answer-question"): _REPORT,
    ("POST", "/instruct"): _REPORT,
    ("POST", "/generate-image"): _IMAGE,
    ("POST", "/reconstruct"): _IMAGE,
    # A stored instance becomes a report.
    ("POST", "/dicom-web/studies"): _REPORT,
    ("POST", "/dicom-web/studies/{study}"): _REPORT,
    ("GET", "/deliveries"): _ADMIN,
    ("GET", "/deliveries/{delivery}"): _ADMIN,
    ("POST", "/deliveries/{delivery}/resend"): _ADMIN,
    ("POST", "/deliveries/{delivery}/discard"): _ADMIN,
    # A job holds reports or images; which, only its body tells, so the route asks again.
    ("POST", "/jobs"): _EITHER,
    ("GET", "/jobs"): _EITHER,
    ("GET", "/jobs/{job}"): _EITHER,
    ("GET", "/jobs/{job}/results/{number}"): _EITHER,
    ("DELETE", "/jobs/{job}"): _EITHER,
}
"""(method or `*`, path of the route) -> scopes, one of which the caller must have."""


def needed(method: str, path: str) -> Scopes:
    """For a route's own path, not a request's."""
    return TABLE.get((method, path), TABLE.get(("*", path), _ADMIN))


def needed_by(connection: Connection, routes: Sequence[BaseRoute]) -> Scopes:
    """For a request; open where there is no such route, since the router says so to anybody.

    A method that the path does not have needs any scope, so that nothing at all is answered to
    strangers there.
    """
    other_method = False
    for route in routes:
        match, _ = route.matches(connection)
        if match is Match.FULL:
            return needed(connection["method"], getattr(route, "path", ""))
        other_method = other_method or match is Match.PARTIAL
    return KNOWN if other_method else OPEN
