"""Prompt -> Generation, by a vLLM server's `/v1/completions`. Token ids only, in both directions.

httpx / HTTP                                 error of the tree
-------------------------------------------  ------------------------------------
cannot connect, connection lost              GeneratorUnavailable
429, 502, 503, 504                           GeneratorUnavailable
the caller's own time is over                DeadlineExceeded
no answer in time                            GeneratorTimeout
any other 4xx                                GeneratorRejected
any other 5xx, an answer of another shape    GeneratorMisbehaved
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx
from pydantic import SecretStr

from llmcxr_models.errors import (
    GenerationError,
    GeneratorMisbehaved,
    GeneratorRejected,
    GeneratorTimeout,
    GeneratorUnavailable,
)
from llmcxr_models.guidance import Guidance
from llmcxr_models.prompt import Prompt
from llmcxr_service import deadline
from llmcxr_service.completion import Choice, Completion, OnTokens, read_stream, read_whole
from llmcxr_service.tracing import trace_headers

UNREACHABLE = "unreachable"
BUSY = "busy"
"""Reasons of calls that the model never worked on; the only ones that may be made again."""
_NEVER = -100.0
"""The lowest logit bias that vLLM takes; e^-100 is no probability in float32."""
_MOST_LOGPROBS = 20
"""As many as vLLM names unless it is started otherwise."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        seed: the same seed, the same answer.
        temperature: 0 is greedy.
        top_p: nucleus sampling: the smallest set of tokens with this probability.
        guidance: what an image leans towards; None for the model alone.
    """

    seed: int
    temperature: float
    top_p: float = 1.0
    guidance: Guidance | None = None


@dataclass(frozen=True)
class Generation:
    """What the model wrote.

    Attributes:
        token_ids: the answer, with the stop token that ended it, if one did.
        finish_reason: `stop`, or `length` where `max_tokens` ended it.
        prompt_tokens: length of the prompt.
        log_probabilities: of each token of the answer, natural logarithms, before temperature and
            constraint; None where the server gives none.
    """

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    log_probabilities: tuple[float, ...] | None = None

    @property
    def mean_log_probability(self) -> float | None:
        """Of a token of the answer, the one that ended it included."""
        values = self.log_probabilities
        return sum(values) / len(values) if values else None


class Generator(Protocol):
    """The language model, as the service needs it."""

    async def generate(
        self, prompt: Prompt, sampling: Sampling, on_tokens: OnTokens | None = None
    ) -> Generation:
        """Answer one prompt within its constraint.

        Args:
            prompt: what is asked.
            sampling: how the answer is drawn.
            on_tokens: told the answer's token ids as they come, unchecked; what it raises ends
                the call. Once it was called, the prompt is never sent again.

        Raises:
            GenerationError: no usable answer.
        """
        ...

    async def log_probabilities(self, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
        """For each prompt, of each token id that it allows as its only next one, in their order.

        Up to a constant: only differences mean something.

        Args:
            prompts: that all allow the same.

        Raises:
            GenerationError: no usable answer.
        """
        ...


class Endpoint(Protocol):
    """Where a vLLM server is; it may move when it is restarted."""

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        ...

    @property
    def api_key(self) -> SecretStr | None:
        """Its bearer key."""
        ...


@dataclass(frozen=True)
class FixedEndpoint:
    """A vLLM server that somebody else runs."""

    url: str
    api_key: SecretStr | None = None


class VllmGenerator:
    """A vLLM server as a `Generator`.

    Args:
        client: without a base URL; its timeouts are those of the connection.
        endpoint: where the server is.
        served_name: the model that it must serve.
        timeout_seconds: deadline of a whole call.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        endpoint: Endpoint,
        served_name: str,
        *,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._served_name = served_name
        self._timeout_seconds = timeout_seconds

    async def generate(
        self, prompt: Prompt, sampling: Sampling, on_tokens: OnTokens | None = None
    ) -> Generation:
        """Answer one prompt; cancelling the call makes vLLM drop it.

        Raises:
            GenerationError: see the table above.
        """
        # 0: of no other token than the one that was drawn.
        request = self._request(prompt, sampling) | {"logprobs": 0}
        completion = await self._ask([prompt], request, on_tokens)
        (choice,) = completion.in_order(1)
        return Generation(
            tuple(choice.token_ids),
            choice.finish_reason,
            completion.usage.prompt_tokens,
            completion.token_log_probabilities(),
        )

    async def log_probabilities(self, prompts: Sequence[Prompt]) -> list[tuple[float, ...]]:
        """One step of the model for each prompt; raises as `generate` does.

        All in one request: asked one by one they take vLLM a third longer on two cores
        (docs/benchmarks, "What was tuned"). vLLM names the most likely tokens, by default before
        the constraint is applied. The allowed ones are among them, or the model was not taught
        this answer.
        """
        if not prompts:
            return []
        constraint = prompts[0].constraint
        if any(prompt.constraint != constraint for prompt in prompts):
            raise ValueError("prompts of one request have one constraint")
        request = self._request(prompts[0], Sampling(seed=0, temperature=0.0))
        request |= {"prompt": [list(prompt.token_ids) for prompt in prompts]}
        completion = await self._ask(prompts, request | {"logprobs": _MOST_LOGPROBS})
        allowed = constraint.allowed_token_ids or ()
        return [_of_first_token(choice, allowed) for choice in completion.in_order(len(prompts))]

    async def _ask(
        self,
        prompts: Sequence[Prompt],
        request: dict[str, Any],
        on_tokens: OnTokens | None = None,
    ) -> Completion:
        try:
            async with deadline.within_deadline(), asyncio.timeout(self._timeout_seconds):
                completion = await self._send(request, on_tokens)
        except TimeoutError as error:
            raise GeneratorTimeout("The language model did not answer in time.") from error
        except httpx.HTTPError as error:
            raise transport_error(error) from error
        if completion.model != self._served_name:
            raise GeneratorMisbehaved("Another model answered.", reason="model")
        if completion.usage.prompt_tokens != sum(len(prompt.token_ids) for prompt in prompts):
            raise GeneratorMisbehaved("The language model read another prompt.", reason="prompt")
        return completion

    async def _send(self, request: dict[str, Any], on_tokens: OnTokens | None) -> Completion:
        if on_tokens is not None:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._client.stream(
            "POST",
            f"{self._endpoint.url}/v1/completions",
            json=request,
            headers=authorization(self._endpoint) | deadline.passed_on() | trace_headers(),
        ) as response:
            if response.status_code != httpx.codes.OK:
                raise status_error(response.status_code)
            if on_tokens is not None:
                return await read_stream(response.aiter_bytes(), on_tokens)
            return read_whole(await response.aread())

    def _request(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        constraint = prompt.constraint
        request: dict[str, Any] = {
            "model": self._served_name,
            "prompt": list(prompt.token_ids),
            "min_tokens": constraint.min_tokens,
            "max_tokens": constraint.max_tokens,
            "stop_token_ids": list(constraint.stop_token_ids),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Said outright, or the checkpoint's generation_config.json would have its way.
            "top_k": 0,
            "repetition_penalty": 1.0,
            "seed": sampling.seed,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        if constraint.allowed_token_ids is not None:
            request["allowed_token_ids"] = list(constraint.allowed_token_ids)
        if constraint.forbidden_token_ids:
            # vLLM on a GPU takes at most 1024 of these, which is exactly the codebook.
            request["logit_bias"] = {str(i): _NEVER for i in constraint.forbidden_token_ids}
        if sampling.guidance is not None:
            request["vllm_xargs"] = sampling.guidance.to_request()
        return request


def _of_first_token(choice: Choice, allowed: Sequence[int]) -> tuple[float, ...]:
    """Log-probabilities of the allowed tokens as the first one of an answer."""
    logprobs = choice.logprobs
    first = (logprobs.top_logprobs[0] if logprobs and logprobs.top_logprobs else None) or {}
    found = [first.get(f"token_id:{i}") for i in allowed]
    if not any(value is not None for value in found):
        raise GeneratorMisbehaved("None of the asked tokens has a probability.", reason="shape")
    # One that is not among them is less likely than all that are.
    least = min(first.values())
    return tuple(least if value is None else value for value in found)


def authorization(endpoint: Endpoint) -> dict[str, str]:
    """The bearer header of an endpoint, if it has a key."""
    key = endpoint.api_key
    return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


def transport_error(error: httpx.HTTPError) -> GenerationError:
    """The error for a call that brought no answer."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return GeneratorUnavailable("The language model cannot be reached.", reason=UNREACHABLE)
    if isinstance(error, httpx.TimeoutException):
        return GeneratorTimeout("The language model did not answer in time.")
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return GeneratorUnavailable("The language model went away.", reason="connection-lost")
    return GeneratorMisbehaved("The language model's answer cannot be read.", reason="transport")


def status_error(status: int) -> GenerationError:
    """The error for an HTTP status that is no success."""
    if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
        return GeneratorUnavailable("The language model takes no requests now.", reason=BUSY)
    if status in {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT}:
        # Somebody stands between us, and does not say whether the model was at work.
        return GeneratorUnavailable("The language model is out of reach.", reason="gateway")
    if httpx.codes.is_client_error(status):
        return GeneratorRejected(f"The language model refused the request with {status}.")
    return GeneratorMisbehaved(f"The language model failed with {status}.", reason="server-error")
