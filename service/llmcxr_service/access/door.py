"""Credentials of a request -> its caller; one object for the life of an application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmcxr_service.access import certificates
from llmcxr_service.access.callers import ANYBODY, Caller
from llmcxr_service.access.keys import PREFIX, KeyRing
from llmcxr_service.access.rates import Rates
from llmcxr_service.access.refusals import Cause, refused
from llmcxr_service.access.tokens import Tokens

_SCHEME = "bearer"


@dataclass(frozen=True)
class Door:
    """Who is let in.

    Attributes:
        open: everybody is.
        keys: recognises API keys.
        tokens: recognises tokens; None where no issuer is configured.
        clients: callers by name in their certificate.
        rates: how often each may ask; None: as often as it likes.
    """

    keys: KeyRing | None
    tokens: Tokens | None = None
    clients: Mapping[str, Caller] | None = None
    rates: Rates | None = None
    open: bool = False

    async def recognise(self, connection: Mapping[str, Any]) -> Caller:
        """Who sends a request, by its Authorization header, else by its certificate.

        Raises:
            Unauthenticated: nobody whom we know.
            IssuerUnavailable: its token cannot be checked.
        """
        if self.open:
            return ANYBODY
        credentials = _bearer(connection)
        if credentials is None:
            return self._by_certificate(connection)
        # A header that fails is not made good by a certificate: the caller meant the header.
        if credentials.startswith(PREFIX):
            if self.keys is None:
                raise refused(Cause.KEY_UNKNOWN)
            return self.keys.recognise(credentials)
        if self.tokens is None:
            raise refused(Cause.TOKENS_OFF)
        return await self.tokens.recognise(credentials)

    async def close(self) -> None:
        """End what is open."""
        if self.tokens is not None:
            await self.tokens.close()
        if self.rates is not None:
            await self.rates.close()

    def _by_certificate(self, connection: Mapping[str, Any]) -> Caller:
        caller = certificates.recognise(connection, self.clients or {})
        if caller is None:
            raise refused(Cause.MISSING)
        return caller


def _bearer(connection: Mapping[str, Any]) -> str | None:
    headers: list[tuple[bytes, bytes]] = connection["headers"]
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        return None
    try:
        scheme, _, credentials = found[0].decode("ascii").partition(" ")
    except UnicodeDecodeError:
        raise refused(Cause.MALFORMED) from None
    # Of two headers a proxy might check one and we the other.
    if len(found) > 1 or scheme.lower() != _SCHEME or not credentials.strip():
        raise refused(Cause.MALFORMED)
    return credentials.strip()
