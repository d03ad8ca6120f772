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
from collections.abc import Callable
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
        left: how many went away, by moment.
        answered: how many had their whole answer before they could.
        most_running: of vLLM's requests, running and waiting, that were seen.
        free_seconds: from the last one's going to none running or waiting.
    """

    left: Counter[Moment] = field(default_factory=Counter)
    answered: int = 0
    most_running: int = 0
    free_seconds: float = PATIENCE_SECONDS


def vllm_address(gateway: int) -> str:
    """URL of the vLLM that a gateway process started."""
    commands = [
        Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in descendants(gateway)
    ]
    (port,) = {c[c.index("--port") + 1] for c in commands if "--port" in c}
    return f"http://127.0.0.1:{port}"


async def one_wave(gateway: str, vllm: str, dice: random.Random, clients: int) -> Wave:
    """Let clients come, and go away at every moment alike; then wait until vLLM is free.

    Args:
        gateway: URL.
        vllm: URL of the vLLM behind it.
        dice: decides when and how each one goes.
        clients: how many, at once.
    """
    wave = Wave()
    moments = list(Moment)
    async with httpx.AsyncClient(base_url=vllm, trust_env=False, timeout=30.0) as metrics:
        watcher = asyncio.ensure_future(_watch(metrics, wave))
        every = (
            _Client(gateway, moments[number % len(moments)], number // len(moments), dice)
            for number in range(clients)
        )
        await asyncio.gather(*(each.come_and_go(wave) for each in every))
        gone = time.monotonic()
        watcher.cancel()
        while time.monotonic() - gone < PATIENCE_SECONDS:
            if await vllm_running(metrics) == 0:
                wave.free_seconds = time.monotonic() - gone
                break
            await asyncio.sleep(0.05)
    return wave


async def vllm_running(metrics: httpx.AsyncClient) -> int:
    """Requests that vLLM works on or keeps waiting, by its own metrics."""
    counts = RUNNING.findall((await metrics.get("/metrics")).text)
    assert counts, "vLLM gives no such metric"
    return int(sum(map(float, counts)))


async def _watch(metrics: httpx.AsyncClient, wave: Wave) -> None:
    while True:
        wave.most_running = max(wave.most_running, await vllm_running(metrics))
        await asyncio.sleep(0.05)


class _Client:
    def __init__(self, gateway: str, moment: Moment, number: int, dice: random.Random) -> None:
        self._host, port = gateway.removeprefix("http://").split(":")
        self._port, self._moment = int(port), moment
        self._breaks = dice.random() < 0.5
        self._part = dice.uniform(0.05, 0.95)
        self._linger = dice.uniform(0.0, 0.5)
        seed = dice.randrange(2**32)
        self._head, self._body = _request(moment, number, seed)

    async def come_and_go(self, wave: Wave) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                gone_in_time = await self._until_its_moment(reader, writer, wave)
        finally:
            self._leave(writer)
        if gone_in_time:
            wave.left[self._moment] += 1
        else:
            wave.answered += 1

    async def _until_its_moment(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wave: Wave
    ) -> bool:
        """Whether its request was not answered by then."""
        whole = self._head + self._body
        match self._moment:
            case Moment.HEAD:
                await _send(writer, self._head[: int(self._part * len(self._head))])
            case Moment.BODY:
                await _send(writer, self._head + self._body[: int(self._part * len(self._body))])
            case Moment.GENERATION:
                await _send(writer, whole)
                await _until(lambda: wave.most_running > 0)
            case Moment.STREAM:
                await _send(writer, whole)
                return await _first_tokens(reader)
        return not await _comes(reader, self._linger)

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        if self._breaks:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes has no event
        await asyncio.sleep(0.02)


async def _comes(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether anything comes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return False
    return True


async def _first_tokens(reader: asyncio.StreamReader) -> bool:
    """Read until an event with tokens; whether the stream has not ended by then."""
    seen = b""
    while not re.search(rb"event: (text|progress)", seen):
        more = await reader.read(4096)
        if not more:
            return False
        seen += more
    return b"event: done" not in seen and b"event: error" not in seen


def _request(moment: Moment, number: int, seed: int) -> tuple[bytes, bytes]:
    """Head and body; what is asked for takes vLLM a while."""
    radiograph = moment is Moment.BODY or (moment is Moment.GENERATION and number % 2)
    text = moment is Moment.STREAM and number % 2
    if radiograph:
        path, media_type = "/generate-report", f"multipart/form-data; boundary={BOUNDARY}"
        body = _form({"seed": str(seed), "temperature": "1.0"}, png(seed % 7, (256, 256)))
    else:
        path, media_type = ("/instruct" if text else "/generate-image"), "application/json"
        asked = {"instruction": "Tell a long story.", "max_tokens": 512} if text else {}
        body = json.dumps((asked or {"report": REPORT}) | {"seed": seed}).encode()
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
