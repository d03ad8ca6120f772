"""An issuer's public keys (RFC 7517): fetched from one configured address, kept for a while.

The address comes from the settings alone: nothing that a token says (`iss`, `jku`, `x5u`) is ever
fetched, and redirections are not followed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.errors import IssuerUnavailable

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 10.0
"""Between two attempts, so that tokens with invented key ids make nobody busy."""
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 256 * 1024
Jwk = Mapping[str, Any]


class IssuerKeys:
    """Public keys by their id.

    Args:
        url: where they are.
        context: what to trust there.
        cache_seconds: age at which they are fetched again.
        stale_seconds: age up to which they are used while they cannot be fetched.
        clock: seconds that only grow.
        measures: told of every fetch.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        *,
        cache_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        measures: DoorMeasures | None = None,
    ) -> None:
        self._url = url
        self._cache_seconds = cache_seconds
        self._stale_seconds = max(stale_seconds, cache_seconds)
        self._clock = clock
        self._measures = measures
        self._keys: dict[str, Jwk] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(
            verify=context, timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """End the connection."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    async def find(self, key_id: str) -> Jwk | None:
        """The key of this id, or None where the issuer has none.

        Raises:
            IssuerUnavailable: the keys are too old, and new ones cannot be had.
        """
        if key_id not in self._keys or self._age() > self._cache_seconds:
            self._start()
        # A known key that is not too old waits for nothing.
        usable = key_id in self._keys and self._age() <= self._stale_seconds
        if not usable and self._fetching is not None:
            # The task is everybody's: one caller that goes away must not end it.
            await asyncio.shield(self._fetching)
        if self._age() > self._stale_seconds:
            raise IssuerUnavailable("Tokens cannot be checked at the moment.")
        return self._keys.get(key_id)

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _start(self) -> None:
        if self._fetching is None and self._clock() - self._tried >= _PAUSE_SECONDS:
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        done = False
        try:
            keys = usable_keys(await self._download())
            if not keys:
                raise ValueError("no usable key")
        except (httpx.HTTPError, RecursionError, TimeoutError, ValueError) as error:
            # The class only: messages may quote what the other end sent.
            log.warning(
                "the issuer's keys cannot be fetched",
                extra={"fields": {"exception": type(error).__name__}},
            )
        else:
            self._keys, self._fetched, done = keys, self._clock(), True
        finally:
            self._fetching = None
            if self._measures is not None:
                self._measures.fetched(done=done)

    async def _download(self) -> object:
        data = bytearray()
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError("not 200")
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise ValueError("too long")
        return json.loads(data)


def usable_keys(document: object) -> dict[str, Jwk]:
    """Those of a JWK set that have an id and are for signatures by a private key.

    Raises:
        ValueError: it is no JWK set.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no JWK set")
    return {
        key["kid"]: key
        for key in document["keys"]
        if isinstance(key, dict)
        and isinstance(key.get("kid"), str)
        and key.get("kty") in {"RSA", "EC", "OKP"}
        and key.get("use", "sig") == "sig"
    }
