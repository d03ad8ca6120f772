"""Whether vLLM answers, and serves exactly the checkpoint that this gateway has open.

`Readiness` is that of one server, `AnyReadiness` that of all of them: one is enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from llmcxr_models.checkpoint import Manifest
from llmcxr_models.errors import GeneratorUnavailable
from llmcxr_models.guidance_request import write_request
from llmcxr_service.generator import Endpoint, authorization

_FRESH_SECONDS = 0.25
_INTERVAL_SECONDS = 2.0
_RETRY_AFTER_SECONDS = 5
_TIMEOUT = httpx.Timeout(3.0)


class _Model(BaseModel):
    model_config = ConfigDict(strict=True)

    id: str
    max_model_len: int | None = None


class _Models(BaseModel):
    model_config = ConfigDict(strict=True)

    data: list[_Model]


class OwnProcess(Protocol):
    """What readiness needs of a vLLM that was started here."""

    @property
    def state(self) -> str:
        """`ready`, or what it is doing instead."""
        ...

    @property
    def retry_after_seconds(self) -> int:
        """When it is worth trying again."""
        ...


class Readiness:
    """Asks vLLM what it serves: in the background, and at once when somebody needs to know.

    Args:
        client: for the calls.
        endpoint: where vLLM is.
        manifest: what it must serve.
        on_change: told whether all is well, after every look.
        process: the vLLM that was started here, if one was.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        endpoint: Endpoint,
        manifest: Manifest,
        *,
        on_change: Callable[[bool], None],
        process: OwnProcess | None = None,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._manifest = manifest
        self._on_change = on_change
        self._process = process
        self._looked_at = float("-inf")
        self._reasons: tuple[str, ...] = ("vLLM has not been asked yet.",)
        # Where it was seen to guide; a server that was away may come back without.
        self._guides_at: str | None = None
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_fine(self) -> bool:
        """Whether the last look found all well, and nothing failed since."""
        return not self._reasons

    @property
    def retry_after_seconds(self) -> int:
        """When it is worth trying again."""
        if self._process is None:
            return _RETRY_AFTER_SECONDS
        return self._process.retry_after_seconds

    async def look(self) -> tuple[str, ...]:
        """Ask now; what is wrong, as sentences. Looks that come together share one call."""
        async with self._looking:
            if time.monotonic() - self._looked_at > _FRESH_SECONDS:
                self._reasons = tuple(await self._problems())
                self._looked_at = time.monotonic()
                self._on_change(not self._reasons)
            return self._reasons

    def doubt(self) -> None:
        """A call failed: the next request asks again before it is sent on."""
        self._reasons = self._reasons or ("vLLM failed a moment ago.",)
        self._looked_at = float("-inf")

    def start(self) -> None:
        """Look every few seconds from now on."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def _problems(self) -> list[str]:
        problems = await self._serving_problems()
        if problems:
            self._guides_at = None
            return problems
        return await self._guidance_problems()

    async def _serving_problems(self) -> list[str]:
        if self._process is not None and self._process.state != "ready":
            return [f"vLLM's process is {self._process.state}."]
        try:
            async with asyncio.timeout(_TIMEOUT.read):
                response = await self._client.get(
                    f"{self._endpoint.url}/v1/models",
                    headers=authorization(self._endpoint),
                    timeout=_TIMEOUT,
                )
        except (httpx.HTTPError, TimeoutError):
            return ["vLLM does not answer."]
        if response.status_code != httpx.codes.OK:
            return [f"vLLM answers with status {response.status_code}."]
        return self._compare(response.content)

    async def _guidance_problems(self) -> list[str]:
        """Whether drawing is guided where the checkpoint wants it.

        vLLM takes arguments that none of its processors knows, and draws as if there were none.
        So it is sent some that only ours refuses: no weights at all.
        """
        if self._manifest.guidance is None or self._guides_at == self._endpoint.url:
            return []
        request = {
            "model": self._manifest.served_name,
            "prompt": [self._manifest.vocabulary.image_offset],
            "min_tokens": 1,
            "max_tokens": 1,
            "stop_token_ids": [],
            "temperature": 0.0,
            "seed": 0,
            "vllm_xargs": write_request((), 1.0),
        }
        try:
            async with asyncio.timeout(_TIMEOUT.read):
                response = await self._client.post(
                    f"{self._endpoint.url}/v1/completions",
                    json=request,
                    headers=authorization(self._endpoint),
                    timeout=_TIMEOUT,
                )
        except (httpx.HTTPError, TimeoutError):
            return ["vLLM does not answer."]
        if response.status_code == httpx.codes.OK:
            return ["vLLM runs without the logits processor that guides this checkpoint's drawing."]
        if response.status_code != httpx.codes.BAD_REQUEST:
            return [f"vLLM answers with status {response.status_code}."]
        self._guides_at = self._endpoint.url
        return []

    def _compare(self, content: bytes) -> list[str]:
        try:
            models = _Models.model_validate_json(content).data
        except ValidationError:
            return ["vLLM's list of models cannot be read."]
        served = next((m for m in models if m.id == self._manifest.served_name), None)
        if served is None:
            return ["vLLM serves another model than the checkpoint's."]
        if (served.max_model_len or 0) < self._manifest.max_model_len:
            return ["vLLM's longest sequence is shorter than the checkpoint's."]
        return []


class AnyReadiness:
    """That of several servers, of which one is enough.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Readiness]) -> None:
        self._parts = parts

    async def require(self) -> None:
        """Return where a server was all well when last looked at, or a new look finds one.

        Raises:
            GeneratorUnavailable: no vLLM answers and serves this checkpoint.
        """
        if any(part.is_fine for part in self._parts):
            return
        reasons = await self.look()
        if reasons:
            raise GeneratorUnavailable(
                f"The language model is not ready. {' '.join(reasons)}",
                reason="not-ready",
                retry_after_seconds=min(part.retry_after_seconds for part in self._parts),
            )

    async def look(self) -> tuple[str, ...]:
        """Ask all now; where none is well, what is wrong with them, each sentence once."""
        found = await asyncio.gather(*(part.look() for part in self._parts))
        if not all(found):
            return ()
        return tuple(dict.fromkeys(reason for reasons in found for reason in reasons))

    def start(self) -> None:
        """Look at each every few seconds from now on."""
        for part in self._parts:
            part.start()

    async def stop(self) -> None:
        """Stop looking."""
        await asyncio.gather(*(part.stop() for part in self._parts))
