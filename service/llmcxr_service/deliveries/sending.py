"""What every way of sending has in common: the objects, the interface, and who does which."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from llmcxr_service.deliveries.destinations import (
    Credentials,
    Destination,
    Tls,
    authorization,
)
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.receiving import Output

_TOO_MANY, _SERVER_ERROR = 429, 500


@dataclass(frozen=True)
class Parcel:
    """One output as it is sent.

    Attributes:
        output: what it is.
        data: its bytes; the same at every attempt.
    """

    output: Output
    data: bytes = field(repr=False)


class Send(Protocol):
    """Sends objects to one kind of destination, blocking, once."""

    def __call__(
        self, destination: Destination, parcels: tuple[Parcel, ...], *, again: bool
    ) -> None:
        """Return when the destination has them.

        Args:
            destination: where to.
            parcels: what; not empty.
            again: whether an earlier attempt may have arrived.

        Raises:
            SendFailed: it does not, as far as we know.
        """
        ...


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """The context of a destination; the system's certificates where it names none.

    Raises:
        SendFailed: a certificate cannot be read (now: it could at start).
    """
    try:
        return (tls or Tls()).context()
    except OSError:
        raise SendFailed("A certificate cannot be read.", Reason.TLS) from None


def http_client(credentials: Credentials, tls: Tls | None, timeout_seconds: float) -> httpx.Client:
    """A client that says who we are and follows nobody elsewhere.

    Raises:
        SendFailed: a secret or certificate cannot be read.
    """
    try:
        secret = authorization(credentials)
    except (OSError, ValueError):
        raise SendFailed("A secret cannot be read.", Reason.UNAUTHORIZED) from None
    return httpx.Client(
        auth=httpx.BasicAuth(*secret) if isinstance(secret, tuple) else None,
        headers={"Authorization": f"Bearer {secret}"} if isinstance(secret, str) else {},
        timeout=httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds)),
        verify=tls_context(tls),
        follow_redirects=False,
        trust_env=False,
    )


def exchange(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Do one HTTP exchange; the answer may still be a refusal.

    Raises:
        SendFailed: there was no answer.
    """
    try:
        return send()
    except httpx.TimeoutException:
        raise SendFailed("The destination did not answer in time.", Reason.TIMEOUT) from None
    except httpx.ConnectError as error:
        if isinstance(error.__cause__ and error.__cause__.__cause__, ssl.SSLError):
            raise SendFailed("No TLS connection came about.", Reason.TLS) from None
        raise SendFailed("The destination cannot be reached.", Reason.UNREACHABLE) from None
    except httpx.TransportError:
        raise SendFailed("The connection broke.", Reason.UNREACHABLE) from None


def refuse_status(response: httpx.Response) -> SendFailed:
    """What an HTTP status that is no success means for the next attempt."""
    status = response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return SendFailed("The destination does not accept who we are.", Reason.UNAUTHORIZED)
    if status in (_TOO_MANY, httpx.codes.SERVICE_UNAVAILABLE):
        return SendFailed(
            "The destination is overloaded.",
            Reason.OVERLOADED,
            retry_after_seconds=_retry_after(response),
        )
    if status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY):
        return SendFailed("The destination wants it again later.", Reason.OVERLOADED)
    if status >= _SERVER_ERROR:
        return SendFailed("The destination failed.", Reason.SERVER_ERROR)
    if status < httpx.codes.BAD_REQUEST:
        return SendFailed("The destination answered something else.", Reason.PROTOCOL)
    return SendFailed("The destination refused it.", Reason.REFUSED)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; its date form is not used by any archive we know."""
    value = response.headers.get("retry-after", "")
    return min(float(value), 3600.0) if value.isascii() and value.isdigit() else None
