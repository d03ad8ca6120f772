"""Callers that are known by their TLS certificate: a TOML file says which may do what.

[[clients]]
name = "router.hospital.example"     # a DNS name or URI among the certificate's alternative names
scopes = ["report:generate"]
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmcxr_service.access.callers import Caller, Scope
from llmcxr_service.access.refusals import Cause, refused
from llmcxr_service.errors import AccessError
from llmcxr_service.operator_file import Table, read_operator_file

NAMES = "llmcxr.certificate_names"
"""Key of a connection's scope: alternative names of the certificate that TLS has verified."""


class Client(Table):
    """One caller.

    Attributes:
        name: among its certificate's alternative names, exactly.
        scopes: what it may do.
    """

    name: str = Field(min_length=1)
    scopes: frozenset[Scope] = Field(min_length=1)


class Clients(Table):
    """The whole file."""

    clients: tuple[Client, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Clients:
        if len({client.name for client in self.clients}) < len(self.clients):
            raise ValueError("names must be distinct")
        return self


def load_clients(path: Path) -> dict[str, Caller]:
    """Callers by name.

    Raises:
        AccessError: the file cannot be used.
    """
    what = "callers (LLMCXR_TLS_CLIENTS)"
    read = read_operator_file(path, Clients, what, AccessError)
    return {
        client.name: Caller(
            f"certificate:{hashlib.sha256(client.name.encode()).hexdigest()[:16]}", client.scopes
        )
        for client in read.clients
    }


def recognise(connection: Mapping[str, Any], clients: Mapping[str, Caller]) -> Caller | None:
    """Whose certificate it is; None where none was shown.

    Raises:
        Unauthenticated: a certificate that names nobody, or several.
    """
    names = connection.get(NAMES)
    if names is None:
        return None
    found = [clients[name] for name in names if name in clients]
    if len(found) != 1:
        raise refused(Cause.CERTIFICATE)
    return found[0]


class CertificateProtocol(H11Protocol):
    """uvicorn's HTTP, which also tells the application whose certificate TLS has verified.

    uvicorn has no ASGI TLS extension, so each connection's application is wrapped.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection, after the handshake."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if isinstance(tls, ssl.SSLObject) else None
        if certificate:
            # uvicorn's types of ASGI and starlette's are two descriptions of the same.
            self.app = _with_names(self.app, alternative_names(certificate))


def alternative_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """DNS names and URIs; common names are no identity any more (RFC 9525, 2)."""
    names = certificate.get("subjectAltName", ())
    return tuple(value for kind, value in names if kind in {"DNS", "URI"})


def _with_names(app: Any, names: tuple[str, ...]) -> ASGIApp:  # noqa: ANN401 - see above
    async def named(connection: Connection, receive: Receive, send: Send) -> None:
        await app({**connection, NAMES: names}, receive, send)

    return named
