"""How often a caller may ask: a sliding window, in memory or in a Redis that replicas share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.errors import AccessError, RateLimited

log = logging.getLogger(__name__)

_STORE_SECONDS = 0.5
"""A Redis that takes longer counts as away: no caller shall wait for its own limit."""
_PAUSE_SECONDS = 5.0


class Rates:
    """Counts requests by caller.

    While the Redis is away each replica counts for itself, so that a caller has at most the limit
    at each of them, and nobody is refused because of it.

    Args:
        limit: such as `600/minute`.
        store: URL of a Redis (`redis:`, `rediss:`, `unix:`); None: memory.
        clock: seconds that only grow.
        measures: told whenever the Redis did not answer.

    Raises:
        AccessError: the URL cannot be used.
    """

    def __init__(
        self,
        limit: str,
        store: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        measures: DoorMeasures | None = None,
    ) -> None:
        self._limit = parse(limit)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._pool = None if store is None else _pool(store)
        self._shared = None if self._pool is None else _shared(self._pool)
        self._clock = clock
        self._measures = measures
        self._away_until = float("-inf")

    async def count(self, caller: str) -> None:
        """Count a request.

        Raises:
            RateLimited: it is one too many.
        """
        if self._shared is not None and self._clock() >= self._away_until:
            try:
                await self._count(self._shared, caller)
            except StorageError:
                self._away_until = self._clock() + _PAUSE_SECONDS
                log.warning("the store of rate limits is away; this replica counts for itself")
                if self._measures is not None:
                    self._measures.store_failed()
            else:
                return
        await self._count(self._own, caller)

    async def close(self) -> None:
        """End the connections to the store."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _count(self, limiter: SlidingWindowCounterRateLimiter, caller: str) -> None:
        if await limiter.hit(self._limit, caller):
            return
        window = await limiter.get_window_stats(self._limit, caller)
        # Of the sliding window's own end; at most its whole length.
        seconds = min(window.reset_time - time.time(), float(self._limit.get_expiry()))
        raise RateLimited(
            "This caller asks too often.", retry_after_seconds=max(1, math.ceil(seconds))
        )


def _pool(url: str) -> ConnectionPool:
    try:
        return ConnectionPool.from_url(
            url,
            socket_timeout=_STORE_SECONDS,
            socket_connect_timeout=_STORE_SECONDS,
            # What fails once is counted here instead; trying again would take the caller's time.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # Its own text quotes the URL, which may hold a password.
        raise AccessError("LLMCXR_RATE_LIMIT_STORE cannot be used.") from None


def _shared(pool: ConnectionPool) -> SlidingWindowCounterRateLimiter:
    # Where the server is only the pool knows; the address here is not used.
    storage = RedisStorage(
        "async+redis://pool:6379",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="llmcxr",
        connection_pool=pool,  # type: ignore[arg-type] # its annotation forgets this option
    )
    return SlidingWindowCounterRateLimiter(storage)
