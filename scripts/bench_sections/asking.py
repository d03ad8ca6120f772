"""Requests to the gateway and, for the same tokens, to vLLM itself; in a closed loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import httpx
from pydantic import SecretStr

from bench_sections.radiographs import Radiographs
from bench_sections.stage import Server
from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.prompt import Prompt
from llmcxr_service.generator import FixedEndpoint, Sampling, VllmGenerator

REPORT = "Findings: The heart is enlarged. The lungs are clear. Impression: Cardiomegaly."
TIMEOUT_SECONDS = 3600.0
IMAGE_TEMPERATURE, IMAGE_TOP_P = 0.85, 0.92
"""The gateway's own defaults."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        tokens: that the language model wrote.
        backend_seconds: of it the gateway waited for vLLM; 0 where vLLM was asked itself.
        seconds: at the client.
    """

    tokens: int
    backend_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Several answers, and how long all of them took together."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens written a second."""
        return sum(answer.tokens for answer in self.answers) / self.seconds


Ask = Callable[[int], Awaitable[Answer]]
"""Asks one thing, by its seed."""


async def closed_loop(ask: Ask, seeds: Sequence[int], at_once: int) -> Batch:
    """One request for each seed; a new one begins when one of `at_once` ends."""
    room = asyncio.Semaphore(at_once)

    async def one(seed: int) -> Answer:
        async with room:
            started = time.perf_counter()
            answer = await ask(seed)
            return replace(answer, seconds=time.perf_counter() - started)

    started = time.perf_counter()
    answers = await asyncio.gather(*map(one, seeds))
    return Batch(answers, time.perf_counter() - started)


class Gateway:
    """The gateway's routes, each with its defaults.

    Args:
        client: of it.
        radiographs: that reports are asked for, by seed.
    """

    def __init__(self, client: httpx.AsyncClient, radiographs: Radiographs) -> None:
        self._client, self.radiographs = client, radiographs

    async def image(self, seed: int) -> Answer:
        """A radiograph."""
        body = {"report": REPORT, "seed": seed}
        return _answer(await self._client.post("/generate-image", json=body))

    async def report(self, seed: int) -> Answer:
        """A report, greedy, with what the model says of each finding."""
        files = {"file": ("radiograph", self.radiographs(seed), "image/png")}
        return _answer(
            await self._client.post("/generate-report", files=files, data={"seed": str(seed)})
        )

    async def text(self, seed: int, max_tokens: int) -> Answer:
        """A text, greedy."""
        body = {"instruction": instruction(seed), "seed": seed, "max_tokens": max_tokens}
        return _answer(await self._client.post("/instruct", json=body))


class RawVllm:
    """vLLM without the gateway: the same prompts, token by token, and the same request.

    Args:
        generator: the gateway's own client, which sends just what the gateway would send.
        checkpoint: for prompts.
    """

    def __init__(self, generator: VllmGenerator, checkpoint: Checkpoint) -> None:
        self._generator = generator
        self.prompts = checkpoint.load_prompts()

    async def image(self, seed: int) -> Answer:
        """An image's tokens, without pixels."""
        sampling = Sampling(seed, IMAGE_TEMPERATURE, IMAGE_TOP_P)
        return await self.ask(self.prompts.image(REPORT), sampling)

    async def text(self, seed: int, max_tokens: int) -> Answer:
        """A text's tokens, greedy."""
        prompt = self.prompts.instruction(instruction(seed), max_tokens=max_tokens)
        return await self.ask(prompt, Sampling(seed, 0.0))

    async def image_of(self, seed: int, tokens: int) -> Answer:
        """So many image tokens."""
        prompt = with_answer_of(self.prompts.image(REPORT), tokens)
        return await self.ask(prompt, Sampling(seed, IMAGE_TEMPERATURE, IMAGE_TOP_P))

    async def look(self, questions: Sequence[Prompt], *, together: bool) -> Answer:
        """Yes or no to each question, all in one request or each in its own."""
        if together:
            await self._generator.log_probabilities(questions)
        else:
            await asyncio.gather(*(self._generator.log_probabilities([q]) for q in questions))
        return Answer(len(questions))

    async def ask(self, prompt: Prompt, sampling: Sampling) -> Answer:
        """Any prompt."""
        return Answer(len((await self._generator.generate(prompt, sampling)).token_ids))


def with_answer_of(prompt: Prompt, tokens: int) -> Prompt:
    """The same prompt with an answer of exactly so many tokens."""
    constraint = replace(prompt.constraint, min_tokens=tokens, max_tokens=tokens, stop_token_ids=())
    return replace(prompt, constraint=constraint)


def instruction(seed: int) -> str:
    """One that no other seed has; else vLLM would find most of the prompt in its cache."""
    return f"In {seed + 2} words, or as many as you need, say what a chest radiograph shows."


@asynccontextmanager
async def asking_gateway(server: Server) -> AsyncIterator[Gateway]:
    """A client of the gateway."""
    headers = {"Accept": "application/json"}
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(
        base_url=server.url,
        headers=headers,
        timeout=TIMEOUT_SECONDS,
        limits=limits,
        trust_env=False,
    ) as client:
        yield Gateway(client, Radiographs())


@asynccontextmanager
async def asking_vllm(server: Server, checkpoint: Checkpoint) -> AsyncIterator[RawVllm]:
    """A client of vLLM."""
    # As the gateway's: vLLM closes idle connections after five seconds.
    limits = httpx.Limits(max_connections=512, keepalive_expiry=2.0)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False) as client:
        endpoint = FixedEndpoint(server.url, SecretStr(server.key) if server.key else None)
        name = checkpoint.manifest.served_name
        yield RawVllm(
            VllmGenerator(client, endpoint, name, timeout_seconds=TIMEOUT_SECONDS), checkpoint
        )


def text_of(side: Gateway | RawVllm, max_tokens: int) -> Ask:
    """A text of a fixed length at most, from either side."""
    return partial(side.text, max_tokens=max_tokens)


def _answer(response: httpx.Response) -> Answer:
    if response.is_error:
        raise RuntimeError(f"the gateway answered {response.status_code}: {response.text[:300]}")
    values = response.json()
    return Answer(values["usage"]["completion_tokens"], values["timings_ms"]["generate"] / 1000.0)
