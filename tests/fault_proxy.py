"""A proxy on loopback in front of a vLLM that breaks connections and answers, one way at a time.

Real sockets: what it does to a caller is what a network or a dying server does. It speaks only
as much HTTP/1.1 as it needs to leave `/v1/models` alone, or to break that as well.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

Answer = dict[str, Any]
FOREVER = 3600.0


def choice(change: Callable[[dict[str, Any]], Any]) -> Callable[[Answer], Any]:
    """A change of the answer's only choice."""

    def changed(answer: Answer) -> Answer:
        change(answer["choices"][0])
        return answer

    return changed


def _with(**changes: Any) -> Callable[[Answer], Any]:
    return lambda answer: answer | changes


CONNECTION = (
    "reset-at-once",
    "closed-at-once",
    "reset-before-answer",
    "closed-before-answer",
    "hanging",
    "reset-in-head",
    "closed-in-head",
    "reset-in-body",
    "closed-in-body",
    "hanging-in-body",
    "slow-bytes",
    "late",
    "no-http",
    "endless-head",
    "bad-chunks",
    "too-long-length",
    "false-gzip",
    "surplus-bytes",
)
STATUSES = {f"status-{n}": n for n in (301, 400, 401, 404, 408, 418, 429, 500, 501, 502, 503, 504)}
BODIES: dict[str, bytes] = {
    "empty-body": b"",
    "bad-json": b'{"choices": [',
    "no-object": b"[1, 2]",
    "no-utf8": b'{"model": "\xff\xfe"}',
    "deep-json": b"[" * 100_000,
    "error-as-200": b'{"error": {"message": "CUDA error"}}',
}
ANSWERS: dict[str, Callable[[Answer], Any]] = {
    "too-few-tokens": choice(lambda c: c["token_ids"].clear()),
    "too-many-tokens": choice(lambda c: c["token_ids"].extend(c["token_ids"] * 400)),
    "out-of-range-token": choice(lambda c: c["token_ids"].__setitem__(0, 10**7)),
    "negative-token": choice(lambda c: c["token_ids"].__setitem__(0, -1)),
    "tokens-as-text": choice(lambda c: c.update(token_ids=[str(i) for i in c["token_ids"]])),
    "tokens-as-fractions": choice(lambda c: c.update(token_ids=[i + 0.5 for i in c["token_ids"]])),
    "no-tokens": choice(lambda c: c.update(token_ids=None)),
    "aborted": choice(lambda c: c.update(finish_reason="abort")),
    "no-choices": _with(choices=[]),
    "another-model": _with(model="another"),
    "another-prompt": _with(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}),
    "no-usage": _with(usage=None),
}
KINDS = ("refused", *CONNECTION, *STATUSES, *BODIES, *ANSWERS)


class FaultProxy:
    """The proxy; `broken` holds a fault, taken away again by `mend`.

    Attributes:
        url: where it listens.
        calls: completions that it saw.
        broken_calls: those that it broke.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._kind: str | None = None
        self._every = 1
        self.calls = 0
        self.broken_calls = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._mended = asyncio.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Serve in a thread of its own."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            self._do(self._listen())
            yield self
        finally:
            self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def break_by(self, kind: str, every: int = 1) -> None:
        """From now on every `every`-th completion fails in one way."""
        assert kind in KINDS, kind

        async def begin() -> None:
            self._kind, self._every, self._mended = kind, every, asyncio.Event()
            if kind == "refused":
                await self._close()

        self._do(begin())

    def mend(self) -> None:
        """From now on all is well; calls that hang are ended."""

        async def end() -> None:
            self._kind = None
            self._mended.set()
            if self._server is None:
                await self._listen()

        self._do(end())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=60.0) as upstream:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    while await self._one(reader, writer, upstream):
                        pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: httpx.AsyncClient,
    ) -> bool:
        """One request; whether another may follow on this connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length") or 0))
        kind = self._next_kind(path)
        if kind in {"reset-at-once", "reset-before-answer"}:
            return _reset(writer)
        if kind in {"closed-at-once", "closed-before-answer"}:
            return False
        if kind == "hanging":
            return await self._hang(reader)
        kept = {k: v for k, v in headers.items() if k in {"content-type", "authorization"}}
        answering = asyncio.ensure_future(
            upstream.request(method, self._upstream + path, content=body, headers=kept)
        )
        # Whoever goes away takes the call with it, as a real server notices.
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)
            return False
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        answer = await answering
        if kind is None:
            await _send(writer, answer.status_code, answer.content)
            return True
        return await self._break(kind, answer.content, reader, writer)

    def _next_kind(self, path: str) -> str | None:
        if path != "/v1/completions":
            return None
        self.calls += 1
        if self._kind is None or self.calls % self._every:
            return None
        self.broken_calls += 1
        return self._kind

    async def _break(
        self, kind: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if kind in STATUSES:
            await _send(writer, STATUSES[kind], b'{"error": {"message": "broken"}}')
            return True
        if kind in BODIES:
            await _send(writer, 200, BODIES[kind])
            return True
        if kind in ANSWERS:
            await _send(writer, 200, json.dumps(ANSWERS[kind](json.loads(body))).encode())
            return True
        return await self._break_bytes(kind, body, reader, writer)

    async def _break_bytes(
        self, kind: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        whole = _head(200, len(body)) + body
        half = len(whole) - len(body) // 2
        parts = {
            "in-head": whole[:20],
            "in-body": whole[:half],
            "no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
            "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X-Filler: y\r\n" * 20_000,
            "bad-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n",
            "too-long-length": _head(200, len(body) + 100) + body,
            "false-gzip": _head(200, len(body), b"Content-Encoding: gzip\r\n") + body,
            "surplus-bytes": whole + b"and something more",
        }
        if kind == "slow-bytes":
            for start in range(0, len(whole), 200):
                writer.write(whole[start : start + 200])
                await writer.drain()
                await asyncio.sleep(0.005)
            return True
        if kind == "late":
            await asyncio.sleep(0.2)
            await _write(writer, whole)
            return True
        await _write(writer, parts.get(kind) or parts[kind.split("-", 1)[1]])
        if kind == "hanging-in-body":
            return await self._hang(reader)
        return _reset(writer) if kind.startswith("reset") else False

    async def _hang(self, reader: asyncio.StreamReader) -> bool:
        waits = [asyncio.ensure_future(w) for w in (self._mended.wait(), reader.read(1))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=FOREVER)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return False


def _head(status: int, length: int, more: bytes = b"") -> bytes:
    first = f"HTTP/1.1 {status} Something\r\nContent-Type: application/json\r\n"
    return first.encode() + more + f"Content-Length: {length}\r\n\r\n".encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    await _write(writer, _head(status, len(body)) + body)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End a connection by RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
