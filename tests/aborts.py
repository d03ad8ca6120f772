"""Clients of a gateway with a real vLLM that go away: at which moment, how, and what is left.

Raw sockets, since a client library ends a request in its own ways. A client leaves by closing
its connection (FIN) or by breaking it (RST); both happen in a network.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx
from tests.e2e.conftest import descendants
from tests.pictures import png

PATIENCE_SECONDS = 120.0
RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting){[^}]*} ([0-9.e+]+)$", re.M)
REPORT = "Findings: The heart is normal in size. The lungs are clear. Impression: Normal chest."
BOUNDARY = "7f3a0c"


class Moment(StrEnum):
    """When a client goes away."""

    HEAD = "in its request's head"
    BODY = "in its request's body"
    GENERATION = "while vLLM generates"
    STREAM = "after the first tokens of a stream"


@dataclass
class Wave:
    """What became of clients that were there at the same time.

    Attributes:
        left: how many went away with their request unanswered, by moment.
        answered: how many had their whole answer before they could.
        running: of vLLM's requests, working and waiting, just before all went.
        free_seconds: from the last one's going to none running or waiting.
    """

    left: Counter[Moment] = field(default_factory=Counter)
    answered: int = 0
    running: int = 0
    free_seconds: float = PATIENCE_SECONDS


def vllm_address(gateway: int) -> str:
    """URL of the vLLM that a gateway process started."""
    commands = [
        Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in descendants(gateway)
    ]
    (port,) = {c[c.index("--port") + 1] for c in commands if "--port" in c}
    return f"http://127.0.0.1:{port}"


async def one_wave(gateway: str, vllm: str, dice: random.Random, clients: int) -> Wave:
    """Let clients come to every moment alike, let all go, and wait until vLLM is free.

    Args:
        gateway: URL.
        vllm: URL of the vLLM behind it.
        dice: decides how each one goes.
        clients: how many, at once.
    """
    wave = Wave()
    moments = list(Moment)
    every = [
        _Client(moments[number % len(moments)], number // len(moments), dice)
        for number in range(clients)
    ]
    async with httpx.AsyncClient(base_url=vllm, trust_env=False, timeout=30.0) as metrics:
        at_work = asyncio.ensure_future(_until_at_work(metrics))
        await asyncio.gather(*(each.come(gateway, at_work) for each in every))
        wave.running = await vllm_running(metrics)
        await asyncio.gather(*(each.go(wave) for each in every))
        gone = time.monotonic()
        while time.monotonic() - gone < PATIENCE_SECONDS:
            if await vllm_running(metrics) == 0:
                wave.free_seconds = time.monotonic() - gone
                break
            await asyncio.sleep(0.02)
    return wave


async def vllm_running(metrics: httpx.AsyncClient) -> int:
    """Requests that vLLM works on or keeps waiting, by its own metrics."""
    counts = RUNNING.findall((await metrics.get("/metrics")).text)
    assert counts, "vLLM gives no such metric"
    return int(sum(map(float, counts)))


async def _until_at_work(metrics: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await vllm_running(metrics):  # noqa: ASYNC110 - another process, no event
            await asyncio.sleep(0.02)


class _Client:
    def __init__(self, moment: Moment, number: int, dice: random.Random) -> None:
        self._moment = moment
        self._breaks = dice.random() < 0.5
        self._part = dice.uniform(0.05, 0.95)
        self._head, self._body = _request(moment, number, dice.randrange(2**32))

    async def come(self, gateway: str, at_work: asyncio.Future[None]) -> None:
        """Until its moment."""
        host, port = gateway.removeprefix("http://").split(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(PATIENCE_SECONDS):
            self._writer.write(self._sent())
            await self._writer.drain()
            if self._moment is Moment.GENERATION:
                await asyncio.shield(at_work)
            if self._moment is Moment.STREAM:
                await _first_tokens(self._reader)

    async def go(self, wave: Wave) -> None:
        """Away, with all others."""
        ended = await self._has_ended()
        if self._breaks:
            linger = struct.pack("ii", 1, 0)
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        self._writer.close()
        if ended:
            wave.answered += 1
        else:
            wave.left[self._moment] += 1

    def _sent(self) -> bytes:
        match self._moment:
            case Moment.HEAD:
                return self._head[: int(self._part * len(self._head))]
            case Moment.BODY:
                return self._head + self._body[: int(self._part * len(self._body))]
        return self._head + self._body

    async def _has_ended(self) -> bool:
        """Whether its answer is there, or whole."""
        seen = b""
        try:
            async with asyncio.timeout(0.001):
                while more := await self._reader.read(4096):
                    seen += more
        except TimeoutError:
            if self._moment is Moment.STREAM:
                return bool(re.search(rb"event: (done|error)", seen))
            return bool(seen)
        except ConnectionError:
            pass
        return True


async def _first_tokens(reader: asyncio.StreamReader) -> None:
    """Read until an event with tokens, or the end."""
    seen = b""
    while not re.search(rb"event: (text|progress)", seen):
        more = await reader.read(4096)
        if not more:
            return
        seen += more


def _request(moment: Moment, number: int, seed: int) -> tuple[bytes, bytes]:
    """Head and body; what is asked for takes vLLM a while."""
    radiograph = moment is Moment.BODY or (moment is Moment.GENERATION and number % 2)
    text = moment is Moment.STREAM and number % 2
    if radiograph:
        path, media_type = "/generate-report", f"multipart/form-data; boundary={BOUNDARY}"
        fields = {"seed": str(seed), "temperature": "2.0", "max_tokens": "512"}
        body = _form(fields, png(seed % 7, (256, 256)))
    else:
        path, media_type = ("/instruct" if text else "/generate-image"), "application/json"
        # Drawn so hot, a text has no end of its own; an image has its length.
        story = {"instruction": "Tell a story.", "temperature": 2.0, "max_tokens": 512}
        body = json.dumps((story if text else {"report": REPORT}) | {"seed": seed}).encode()
    accept = "text/event-stream" if moment is Moment.STREAM else "application/json"
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: gateway",
        f"Accept: {accept}",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), body


def _form(fields: dict[str, str], file: bytes) -> bytes:
    begin = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{begin}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    head = f'{begin}"file"; filename="x.png"\r\nContent-Type: image/png\r\n\r\n'.encode()
    return b"".join([*parts, head, file, f"\r\n--{BOUNDARY}--\r\n".encode()])
