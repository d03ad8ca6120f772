"""Server-Sent Events (WHATWG HTML, section 9.2) <-> names and data. It knows no connection.

Our own data is JSON, which has no line ends in it, so an event is always two lines. A parser is
here because neither vLLM's stream nor ours may be split at U+2028 and its like, as
`str.splitlines` and so httpx's `iter_lines` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": still here\n\n"
"""A comment: keeps proxies from closing a quiet connection, and is no event."""

_LONGEST_EVENT_BYTES = 4 * 2**20


@dataclass(frozen=True)
class ServerSentEvent:
    """One event.

    Attributes:
        name: `message` where the stream names none.
        data: its data lines, joined.
    """

    name: str
    data: str

    def encode(self) -> bytes:
        """The event as it travels; `name` and `data` must be one line each."""
        return f"event: {self.name}\ndata: {self.data}\n\n".encode()


class EventParser:
    """Bytes as they arrive -> events, however the bytes were cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that `chunk` completes.

        Raises:
            ValueError: not UTF-8, or an event without an end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_EVENT_BYTES:
            raise ValueError("an event is longer than any that is meant")
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8"))
            if event is not None:
                yield event

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            event = ServerSentEvent(self._name or "message", "\n".join(self._data))
            complete, self._name, self._data = bool(self._data), "", []
            return event if complete else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None
