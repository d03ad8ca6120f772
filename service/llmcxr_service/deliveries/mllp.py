"""HL7 v2 over MLLP: framing and acknowledgements (HL7 2.5.1, chapter 2 and its appendix C).

Only what is needed to send a message and to know whether it was taken; a library for it would
bring a server and parsers of everything.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from llmcxr_service.deliveries.destinations import Destination, MllpDestination
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.sending import Parcel, tls_context

START, END = b"\x0b", b"\x1c\x0d"
_LONGEST_ANSWER = 1 << 20

_ACCEPTED = frozenset({"AA", "CA"})
_TROUBLE = frozenset({"AE", "CE"})
# Errors of table 0357 that are not the message's fault.
_PASSING_CONDITIONS = frozenset({"206", "207"})


def send_mllp(destination: Destination, parcels: tuple[Parcel, ...], *, again: bool) -> None:  # noqa: ARG001
    """Send messages one by one, each when the one before was acknowledged.

    A message that was taken just before a crash comes again with the same MSH-10: HL7 leaves
    it to the receiver to drop it.

    Raises:
        SendFailed: one was not acknowledged with AA or CA.
    """
    assert isinstance(destination, MllpDestination)
    try:
        with _connect(destination) as connection:
            for parcel in parcels:
                connection.sendall(START + parcel.data + END)
                _check(_receive(connection, destination.timeout_seconds), control_id(parcel.data))
    except TimeoutError:
        raise SendFailed("The destination did not answer in time.", Reason.TIMEOUT) from None
    except ssl.SSLError:
        raise SendFailed("No TLS connection came about.", Reason.TLS) from None
    except OSError:
        raise SendFailed("The destination cannot be reached.", Reason.UNREACHABLE) from None


def control_id(message: bytes) -> str:
    """MSH-10 of a message; empty where it has none."""
    return _field(_segments(message).get("MSH", []), 9)


def _connect(destination: MllpDestination) -> socket.socket:
    timeout = destination.timeout_seconds
    plain = socket.create_connection(
        (destination.host, destination.port), timeout=min(10.0, timeout)
    )
    try:
        plain.settimeout(timeout)
        if destination.tls is None:
            return plain
        name = destination.tls.server_name or destination.host
        return tls_context(destination.tls).wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _receive(connection: socket.socket, timeout_seconds: float) -> bytes:
    """One framed message."""
    deadline = time.monotonic() + timeout_seconds
    data = b""
    while END not in data:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        chunk = connection.recv(65536)
        if not chunk:
            raise SendFailed("The connection broke.", Reason.UNREACHABLE)
        data += chunk
        if len(data) > _LONGEST_ANSWER:
            raise SendFailed("The acknowledgement is too long.", Reason.PROTOCOL)
    start = data.find(START)
    if start < 0:
        raise SendFailed("The answer is no MLLP.", Reason.PROTOCOL)
    return data[start + 1 : data.index(END)]


def _check(answer: bytes, sent_id: str) -> None:
    """Raise unless the acknowledgement says that the message was taken."""
    segments = _segments(answer)
    acknowledgement = segments.get("MSA", [])
    code, answered_id = _field(acknowledgement, 1), _field(acknowledgement, 2)
    if answered_id != sent_id:
        raise SendFailed("The acknowledgement is for another message.", Reason.PROTOCOL)
    if code in _ACCEPTED:
        return
    condition = _field(segments.get("ERR", []), 3).split("^")[0]
    if code in _TROUBLE or condition in _PASSING_CONDITIONS:
        raise SendFailed("The destination could not process it.", Reason.SERVER_ERROR)
    if code in ("AR", "CR"):
        raise SendFailed("The destination refused it.", Reason.REFUSED)
    raise SendFailed("The acknowledgement has no known code.", Reason.PROTOCOL)


def _segments(message: bytes) -> dict[str, list[str]]:
    """First segment of each name, as fields; MSH-1 is the separator itself, so MSH-n is n - 1."""
    text = ""
    with contextlib.suppress(UnicodeDecodeError):
        text = message.decode("utf-8")
    segments: dict[str, list[str]] = {}
    for line in text.replace("\n", "\r").split("\r"):
        fields = line.split(text[3:4] or "|")
        segments.setdefault(fields[0], fields)
    return segments


def _field(fields: list[str], index: int) -> str:
    return fields[index] if index < len(fields) else ""
