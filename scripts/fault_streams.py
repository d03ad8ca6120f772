"""Faults of answers that come as events, and clients that send or read slowly.

A stream has begun with status 200 when something goes wrong, so the error is its last event.
What came before must be the beginning of the right answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fault_outcome import EVENTS, Outcome, gathered, instruct, response_text, until_well
from tests.fakes import FakeVllm, Fault
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.server_sent_events import EventParser
from llmcxr_service.settings import Settings

CLIENTS = 8
UNAVAILABLE = "generator-unavailable"
MISBEHAVED = "generator-misbehaved"
TEXTS = {
    "stream-broken-off": (Fault.BREAK_OFF, "generator-unavailable connection-lost"),
    "stream-error-event": (Fault.ERROR_EVENT, MISBEHAVED),
    "stream-out-of-range-token": (Fault.OUT_OF_RANGE, f"{MISBEHAVED} token-id"),
    "stream-negative-token": (Fault.NEGATIVE, f"{MISBEHAVED} token-id"),
    "stream-too-many-tokens": (Fault.TOO_MANY, MISBEHAVED),
    "stream-aborted": (Fault.ABORTED, MISBEHAVED),
    "stream-no-token-ids": (Fault.NO_TOKEN_IDS, MISBEHAVED),
    "stream-tokens-as-text": (Fault.WRONG_TYPE, MISBEHAVED),
    "stream-no-choices": (Fault.NO_CHOICES, MISBEHAVED),
    "stream-another-model": (Fault.OTHER_MODEL, f"{MISBEHAVED} model"),
    "stream-another-prompt": (Fault.OTHER_PROMPT, f"{MISBEHAVED} prompt"),
    "stream-server-error": (Fault.SERVER_ERROR, MISBEHAVED),
    "stream-refused": (Fault.REFUSE, "generator-rejected"),
    "stream-bad-json": (Fault.BAD_JSON, MISBEHAVED),
    "stream-died-at-once": (Fault.DIE, "generator-unavailable connection-lost"),
}
IMAGES = {
    "stream-short-image": (Fault.TOO_FEW, "invalid-image-tokens"),
    "stream-image-of-other-tokens": (Fault.OUT_OF_RANGE, "invalid-image-tokens"),
}
SLOW = ("slow-reader", "slow-sender")
KINDS = (*TEXTS, *IMAGES, *SLOW)
TOKEN_SECONDS = 0.005


def run(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """These kinds, one after the other, against one gateway."""
    manifest = Checkpoint.open(checkpoint, verify=False).manifest
    vllm = FakeVllm(
        manifest.served_name, manifest.vocabulary.size, max_model_len=manifest.max_model_len
    )
    with ExitStack() as stack:
        upstream = stack.enter_context(serve(vllm.app()))
        settings = Settings(
            checkpoint=checkpoint,
            open=True,
            device="cpu",
            vqgan_threads=1,
            decode_workers=1,
            vllm_url=upstream,
            request_timeout_seconds=10.0,
        )
        url = stack.enter_context(serve(create_app(settings)))
        return asyncio.run(Streams(url, vllm, repeats).run(kinds))


@dataclass
class Streams:
    """The parts of the experiment."""

    url: str
    vllm: FakeVllm
    repeats: int
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    async def run(self, kinds: list[str]) -> dict[str, Outcome]:
        """Draw what is right, then try one kind after the other."""
        outcomes = {}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60.0, limits=limits, trust_env=False) as client:
            for seed in range(self.repeats):
                answer = await instruct(client, self.url, seed)
                self.texts.append(response_text(answer.raise_for_status()))
                if any(kind in IMAGES for kind in kinds):
                    drawn = await self._draw(client, seed, "application/json")
                    self.images.append(drawn.raise_for_status().json()["images"][0]["png_base64"])
            self.vllm.token_seconds = TOKEN_SECONDS
            for kind in kinds:
                outcomes[kind] = await self._under(client, kind)
        return outcomes

    async def _draw(self, client: httpx.AsyncClient, seed: int, accept: str) -> httpx.Response:
        body = {"report": f"Report number {seed}.", "seed": seed}
        return await client.post(
            f"{self.url}/generate-image", json=body, headers={"Accept": accept}
        )

    async def _under(self, client: httpx.AsyncClient, kind: str) -> Outcome:
        outcome = Outcome()
        fault, error = {**TEXTS, **IMAGES}.get(kind, (None, ""))
        allowed = {error, UNAVAILABLE} if fault else set()
        if fault:
            self.vllm.faults.extend([None, fault] * self.repeats)

        async def one(seed: int) -> None:
            if kind == "slow-reader" and seed % 2:
                await self._read_slowly(outcome, seed)
            elif kind == "slow-sender" and seed % 2:
                await self._send_slowly(outcome, seed)
            elif kind in IMAGES:
                answer = await self._draw(client, seed, EVENTS)
                self._judge_image(outcome, seed, answer, allowed)
            else:
                answer = await instruct(client, self.url, seed, stream=True)
                self._judge_text(outcome, seed, answer, allowed)

        await gathered(self.repeats, CLIENTS, one)
        self.vllm.faults.clear()

        async def well() -> bool:
            answer = await instruct(client, self.url, 0)
            return answer.is_success and not self.vllm.running

        outcome.recovery_seconds = await until_well(well)
        return outcome

    def _judge_text(
        self, outcome: Outcome, seed: int, answer: httpx.Response, allowed: set[str]
    ) -> None:
        if answer.is_success:
            outcome.stream(answer.content, seed, self.texts, allowed)
        else:
            outcome.problem(answer, allowed)

    def _judge_image(
        self, outcome: Outcome, seed: int, answer: httpx.Response, allowed: set[str]
    ) -> None:
        if not answer.is_success:
            outcome.problem(answer, allowed)
            return
        events = [(e.name, json.loads(e.data)) for e in EventParser().feed(answer.content)]
        images = [data["png_base64"] for name, data in events if name == "image"]
        last, data = events[-1]
        if last == "done" and len(images) == 1:
            outcome.text(images[0], seed, self.images, "right stream")
        elif last == "error" and not images:
            retries = "retry_after_seconds" in data
            outcome.document(data, allowed, retries=retries, where="event ")
        else:
            outcome.bad("stream with an image and an error")

    def _request(self, seed: int, accept: str) -> tuple[str, int, bytes]:
        host, port = self.url.removeprefix("http://").split(":")
        body = json.dumps(
            {"instruction": f"Explain number {seed}.", "seed": seed, "max_tokens": 24}
        ).encode()
        head = (
            f"POST /instruct HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return host, int(port), head.encode() + body

    async def _read_slowly(self, outcome: Outcome, seed: int) -> None:
        """A reader that takes a few bytes at a time, and leaves the rest to the network."""
        host, port, request = self._request(seed, EVENTS)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, port))
        await loop.sock_sendall(connection, request)
        received = b""
        while part := await loop.sock_recv(connection, 128):
            received += part
            await asyncio.sleep(0.02)
        connection.close()
        _, _, body = received.partition(b"\r\n\r\n")
        outcome.stream(_unchunked(body), seed, self.texts, ())

    async def _send_slowly(self, outcome: Outcome, seed: int) -> None:
        """A sender whose request comes in small pieces, and is whole in the end."""
        host, port, request = self._request(seed, "application/json")
        reader, writer = await asyncio.open_connection(host, port)
        for start in range(0, len(request), 8):
            writer.write(request[start : start + 8])
            await writer.drain()
            await asyncio.sleep(0.01)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        if not head.startswith(b"HTTP/1.1 200"):
            outcome.bad("slow sender refused")
            return
        outcome.text(json.loads(body)["response"], seed, self.texts)


def _unchunked(body: bytes) -> bytes:
    """The content of a chunked body (RFC 9112, 7.1)."""
    content, rest = b"", body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size or b"0", 16)
        content, rest = content + rest[:length], rest[length + 2 :]
        if not length:
            break
    return content
