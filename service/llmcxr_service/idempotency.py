"""Idempotency-Key on every POST: the same request again gets the first one's answer.

As draft-ietf-httpapi-idempotency-key-header-07: the same key with another request is 422, with
one that is still in work 409. Keys are kept as hashes and belong to their caller; answers are
files in the spool, which expire. A request in work holds a lock of the operating system, so
that nothing stays locked after a kill, and replicas that share the spool see each other's.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_models.errors import CxrError
from llmcxr_service.callers import id_in
from llmcxr_service.durable_files import replace
from llmcxr_service.errors import (
    IdempotencyConflict,
    IdempotencyMismatch,
    InvalidIdempotencyKey,
    ReceiverUnavailable,
)
from llmcxr_service.problems import error_response

LOGGER = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_FOLDER = "idempotency"
_KEY = re.compile(rb'"[\x21\x23-\x5b\x5d-\x7e]{1,255}"|[\x21\x23-\x5b\x5d-\x7e]{1,255}')
_BOUNDARY = re.compile(rb'boundary="?([^";,\s]+)"?', re.IGNORECASE)
# What may be otherwise next time is not kept: who may ask, how much is in work, what failed.
_PASSING = frozenset({401, 403, 404, 408, 409, 429, 499})
_EVENTS = b"text/event-stream"
_MOST_BYTES = 64 * 1024 * 1024
_SWEEP_SECONDS = 600.0
_CREDENTIALS = (b"authorization", b"x-api-key")


@dataclass(frozen=True)
class Answer:
    """A kept answer.

    Attributes:
        fingerprint: of the request.
        status: of the answer.
        headers: of the answer.
        body: of the answer.
    """

    fingerprint: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class AnswerStore:
    """Answers by hashed key, as files that only we can read. Blocking.

    Args:
        spool: the directory that replicas share; made at the first key.
        seconds: how long an answer is kept.
    """

    def __init__(self, spool: Path, seconds: float) -> None:
        self._root = spool / _FOLDER
        self._seconds = seconds
        self._swept = 0.0

    def lock(self, key: str) -> int | None:
        """Take a key; None where a request in work has it. To be given to `unlock`."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._root / f"{key}.lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # it was swept between opening and locking

    def unlock(self, descriptor: int) -> None:
        """Give a key back."""
        os.close(descriptor)

    def get(self, key: str) -> Answer | None:
        """The answer to the request that had this key, if it is kept."""
        path = self._root / f"{key}.answer"
        try:
            if time.time() - path.stat().st_mtime > self._seconds:
                return None
            head, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        data: dict[str, Any] = json.loads(head)
        headers = [(name.encode("latin-1"), v.encode("latin-1")) for name, v in data["headers"]]
        return Answer(data["fingerprint"], data["status"], headers, body)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in answer.headers]
        head = {"fingerprint": answer.fingerprint, "status": answer.status, "headers": headers}
        replace(self._root / f"{key}.answer", json.dumps(head).encode() + b"\n" + answer.body)

    def sweep(self) -> None:
        """Forget what has expired; now and then."""
        if time.monotonic() - self._swept < _SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        self.sweep_now()

    def sweep_now(self) -> None:
        """Forget what has expired."""
        for path in self._root.glob("*.lock"):
            try:
                old = time.time() - path.stat().st_mtime > self._seconds
            except FileNotFoundError:
                continue
            descriptor = self.lock(path.stem) if old else None
            if descriptor is not None:
                path.with_suffix(".answer").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                self.unlock(descriptor)


class Idempotency:
    """ASGI middleware, within authentication.

    Args:
        app: what answers.
        store: where answers are kept.
        without: beginnings of paths that have a rule of their own for what comes again.
    """

    def __init__(self, app: ASGIApp, store: AnswerStore, without: tuple[str, ...] = ()) -> None:
        self._app, self._store, self._without = app, store, without

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        keys = []
        if scope["type"] == "http" and scope["method"] == "POST":
            name = HEADER.lower().encode()
            keys = [value for key, value in scope["headers"] if key == name]
        if not keys or scope["path"].startswith(self._without or ("\0",)):
            await self._app(scope, receive, send)
            return
        try:
            await self._once(keys, scope, receive, send)
        except CxrError as error:
            scope["state"]["rejection"] = error.reason
            response = error_response(error, scope["state"]["request_id"])
            await response(scope, receive, send)

    async def _once(self, keys: list[bytes], scope: Scope, receive: Receive, send: Send) -> None:
        if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
            raise InvalidIdempotencyKey(f"{HEADER} must be 1 to 255 visible ASCII characters.")
        key = _hash(_owner(scope), keys[0].strip(b'"'))
        body = await _body(receive)
        if body is None:
            return
        fingerprint = _fingerprint(scope, body)
        descriptor = await self._lock(key)
        if descriptor is None:
            raise IdempotencyConflict("A request with this key is in work.")
        try:
            answer = await asyncio.to_thread(self._store.get, key)
            if answer is None:
                scope["state"]["idempotency"] = (key, fingerprint)
                keeping = _Keeping(send, self._store, key, fingerprint)
                await self._app(scope, _again(body, receive), keeping.send)
            elif answer.fingerprint == fingerprint:
                await _replay(answer, send)
            else:
                raise IdempotencyMismatch("This key came with another request before.")
        finally:
            self._store.unlock(descriptor)
        await asyncio.to_thread(self._store.sweep)

    async def _lock(self, key: str) -> int | None:
        try:
            return await asyncio.to_thread(self._store.lock, key)
        except OSError as error:
            # Whoever sends a key wants the work done once, and here it would be done each time.
            fields = {"exception": type(error).__name__}
            LOGGER.error("a key could not be kept", extra={"fields": fields})
            raise ReceiverUnavailable(f"The {HEADER} cannot be kept at the moment.") from None


class _Keeping:
    """Passes an answer on, and keeps it before its last part goes out."""

    def __init__(self, send: Send, store: AnswerStore, key: str, fingerprint: str) -> None:
        self._send, self._store = send, store
        self._key, self._fingerprint = key, fingerprint
        self._status, self._headers = 0, [(b"", b"")]
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False) and self._is_kept():
                await self._keep()
        await self._send(message)

    def _is_kept(self) -> bool:
        # A stream of events may end in an error after its status said that all is well.
        stream = any(n == b"content-type" and v.startswith(_EVENTS) for n, v in self._headers)
        passing = self._status >= 500 or self._status in _PASSING or stream
        return not passing and len(self._body) <= _MOST_BYTES

    async def _keep(self) -> None:
        answer = Answer(self._fingerprint, self._status, self._headers, bytes(self._body))
        try:
            await asyncio.to_thread(self._store.put, self._key, answer)
        except OSError as error:
            # The work is done, and its answer better than none.
            fields = {"exception": type(error).__name__}
            LOGGER.error("an answer could not be kept", extra={"fields": fields})


async def _replay(answer: Answer, send: Send) -> None:
    headers = [*answer.headers, (REPLAYED.lower().encode(), b"true")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the client went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _owner(scope: Scope) -> bytes:
    """Whose key it is: the caller's, or where nobody is known, whoever has these credentials."""
    caller = id_in(scope.get("state", {}))
    if caller:
        return caller.encode()
    return b"\x1f".join(value for name, value in scope["headers"] if name in _CREDENTIALS)


def _fingerprint(scope: Scope, body: bytes) -> str:
    """Of all that decides the answer. A form's boundary is drawn anew by every client."""
    headers = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"")
    found = _BOUNDARY.search(media_type)
    if found and media_type.lower().startswith(b"multipart/"):
        boundary = found.group(1)
        body, media_type = body.replace(boundary, b""), media_type.replace(boundary, b"")
    path, query = scope["path"].encode(), scope.get("query_string", b"")
    return _hash(path, query, media_type, headers.get(b"accept", b""), body)


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
