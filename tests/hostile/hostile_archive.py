"""An archive on loopback that answers what was laid out for a series: HTTP, half of it, or none."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from tests.hostile.case import Answer

_LONGEST_SECONDS = 60.0
_DRIP_SECONDS = 0.05


class HostileArchive(socketserver.ThreadingTCPServer):
    """Knows by the series in the URL, which is different for every request, what to answer."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Base of its WADO-RS service."""
        return f"http://127.0.0.1:{self.server_address[1]}/wado"

    def lay_out(self, series: str, answer: Answer) -> None:
        """Say this to whoever asks for an instance of the series."""
        self._answers[series] = answer

    def answer(self, request: bytes) -> Answer:
        """What was laid out for a request; nothing where it is none of ours."""
        path = request.split(b" ", 2)[1:2]
        parts = path[0].decode("latin-1").split("/") if path else []
        series = parts[parts.index("series") + 1] if "series" in parts[:-1] else ""
        return self._answers.pop(series, Answer())

    def handle_error(self, request: object, client_address: object) -> None:
        """The gateway hung up on us, as it should."""


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(_LONGEST_SECONDS)
        request = b""
        while b"\r\n\r\n" not in request:
            part = connection.recv(65_536)
            if not part:
                return
            request += part
        answer = cast(HostileArchive, self.server).answer(request)
        with contextlib.suppress(OSError):
            connection.sendall(answer.content)
            _go_on(connection, answer)


def _go_on(connection: socket.socket, answer: Answer) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    if answer.then == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif answer.then == "silence":
        while connection.recv(65_536):
            continue
    while answer.then in ("endless", "drip") and time.monotonic() < deadline:
        connection.sendall(answer.again)
        if answer.then == "drip":
            time.sleep(_DRIP_SECONDS)


@contextmanager
def hostile_archive() -> Iterator[HostileArchive]:
    """One that listens."""
    with HostileArchive() as archive:
        thread = threading.Thread(target=archive.serve_forever)
        thread.start()
        try:
            yield archive
        finally:
            archive.shutdown()
            thread.join()
