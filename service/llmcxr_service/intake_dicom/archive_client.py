"""Connections to a configured archive and what its statuses mean, for WADO-RS and QIDO-RS."""

from __future__ import annotations

import ssl
from collections.abc import Generator

import httpx

from llmcxr_service.deliveries.destinations import Credentials, Tls, authorization
from llmcxr_service.errors import (
    InstanceNotFound,
    SourceMisbehaved,
    SourceRefused,
    SourceTimeout,
    SourceUnavailable,
)
from llmcxr_service.intake_dicom.sources import Source

_CONNECT_SECONDS = 10.0


def archive_client(source: Source, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """A client that says who we are.

    Args:
        source: the archive.
        tls: its context, where it was loaded before; that takes tens of milliseconds.

    Raises:
        SourceRefused: a secret cannot be read.
    """
    return httpx.AsyncClient(
        auth=_Identification(source.credentials),
        verify=tls or (source.tls or Tls()).context(),
        timeout=httpx.Timeout(source.timeout_seconds, connect=_CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
    )


def check_status(status: int) -> None:
    """Return where an archive answered what it was asked.

    Raises:
        InstanceNotFound: it does not have it.
        SourceError: it is busy, slow, refuses us, or failed.
    """
    if status == httpx.codes.OK:
        return
    if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise InstanceNotFound("The archive does not have this instance.")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SourceRefused("The archive does not accept who we are.")
    if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        raise SourceUnavailable("The archive has too much to do.")
    if status == httpx.codes.GATEWAY_TIMEOUT:
        raise SourceTimeout("The archive did not answer in time.")
    raise SourceMisbehaved("The archive answered with an error.")


class _Identification(httpx.Auth):
    """Says who we are, with the secret as it is in its file now."""

    def __init__(self, credentials: Credentials) -> None:
        try:
            self._secret = authorization(credentials)
        except (OSError, ValueError):
            raise SourceRefused("A secret for the archive cannot be read.") from None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if isinstance(self._secret, tuple):
            yield from httpx.BasicAuth(*self._secret).auth_flow(request)
            return
        if self._secret is not None:
            request.headers["Authorization"] = f"Bearer {self._secret}"
        yield request
