"""Several vLLM servers as one `Generator`: the least loaded one is asked, another where it fails.

A call is made again only where the model never worked on it: no connection, or 429 or 503 as
the answer. Everything else might have cost a whole generation, and is told to the caller, who
knows whether it is worth another one. One server is the same with one to choose from.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from llmcxr_models.errors import (
    GenerationError,
    GeneratorMisbehaved,
    GeneratorRejected,
    GeneratorUnavailable,
)
from llmcxr_models.prompt import Prompt
from llmcxr_service.circuit import Circuit
from llmcxr_service.completion import OnTokens
from llmcxr_service.generator import BUSY, UNREACHABLE, Generation, Generator, Sampling
from llmcxr_service.observability import Metrics
from llmcxr_service.readiness import Readiness

T = TypeVar("T")

FEWEST_ATTEMPTS = 3
_BETWEEN = wait_random_exponential(multiplier=0.05, max=0.5)


@dataclass
class Replica:
    """One vLLM server.

    Attributes:
        index: its place in the settings; the only name that it has in metrics.
        generator: asks it.
        readiness: whether it serves this checkpoint.
        circuit: whether it is left alone.
        running: calls under way.
    """

    index: int
    generator: Generator
    readiness: Readiness
    circuit: Circuit
    running: int = field(default=0)


class Replicas:
    """A `Generator` over all replicas.

    Args:
        replicas: at least one.
        metrics: where to count.
    """

    def __init__(self, replicas: Sequence[Replica], metrics: Metrics) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._turn = 0

    async def generate(
        self, prompt: Prompt, sampling: Sampling, on_tokens: OnTokens | None = None
    ) -> Generation:
        """Answer one prompt; see `Generator`.

        Raises:
            GenerationError: no replica gave a usable answer.
        """
        return await self._call(lambda g: g.generate(prompt, sampling, on_tokens))

    async def log_probabilities(self, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
        """One step of the model for each; raises as `generate` does."""
        return await self._call(lambda g: g.log_probabilities(prompts))

    async def _call(self, ask: Callable[[Generator], Awaitable[T]]) -> T:
        tried: set[int] = set()
        attempts = max(FEWEST_ATTEMPTS, len(self._replicas) + 1)

        def wait(state: RetryCallState) -> float:
            # Whoever was not asked yet is asked at once; the same one is given a moment.
            return _BETWEEN(state) if len(tried) >= len(self._replicas) else 0.0

        retrying = AsyncRetrying(
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(never_worked_on),
            wait=wait,
            reraise=True,
        )

        async def once() -> T:
            replica = await self._choose(tried)
            if tried:
                self._metrics.vllm_retries.inc()
            tried.add(replica.index)
            return await self._ask(replica, ask)

        return await retrying(once)

    async def _choose(self, tried: set[int]) -> Replica:
        """The least loaded of those that can be asked.

        Raises:
            GeneratorUnavailable: there is none.
        """
        closed = [r for r in self._replicas if r.circuit.takes_calls]
        if not closed:
            pause = min(r.circuit.pause_seconds for r in self._replicas)
            raise GeneratorUnavailable(
                "The language model failed several times, and is left alone for a moment.",
                reason="circuit-open",
                retry_after_seconds=max(1, math.ceil(pause)),
            )
        usable = [r for r in closed if r.readiness.is_fine]
        if not usable:
            await asyncio.gather(*(r.readiness.look() for r in closed))
            usable = [r for r in closed if r.readiness.is_fine and r.circuit.takes_calls]
        if not usable:
            raise GeneratorUnavailable("The language model is not ready.", reason="not-ready")
        self._turn += 1
        return min(usable, key=lambda r: (r.index in tried, r.running, self._order(r)))

    def _order(self, replica: Replica) -> int:
        return (replica.index - self._turn) % len(self._replicas)

    async def _ask(self, replica: Replica, ask: Callable[[Generator], Awaitable[T]]) -> T:
        label = str(replica.index)
        replica.circuit.begin()
        self._count(replica, +1)
        outcome = "given-up"
        try:
            result = await ask(replica.generator)
            outcome = "answered"
        except GenerationError as error:
            outcome = error.reason
            self._judge(replica, error)
            raise
        finally:
            if outcome == "answered":
                replica.circuit.succeeded()
            elif outcome == "given-up":
                replica.circuit.given_up()
            self._count(replica, -1)
            self._metrics.vllm_calls.labels(label, outcome).inc()
        return result

    def _judge(self, replica: Replica, error: GenerationError) -> None:
        # What one caller's prompt is refused for says nothing; having much to do is no failure.
        if isinstance(error, GeneratorRejected) or error.reason == BUSY:
            replica.circuit.given_up()
        else:
            replica.circuit.failed()
        # An answer of the wrong kind came from a server that is there.
        if not isinstance(error, GeneratorRejected | GeneratorMisbehaved):
            replica.readiness.doubt()

    def _count(self, replica: Replica, by: int) -> None:
        replica.running += by
        self._metrics.vllm_running.labels(str(replica.index)).set(replica.running)


def never_worked_on(error: BaseException) -> bool:
    """Whether a call can be made again without the model's doing anything twice."""
    return isinstance(error, GeneratorUnavailable) and error.reason in {UNREACHABLE, BUSY}
