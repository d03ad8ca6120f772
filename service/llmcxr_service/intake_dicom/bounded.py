"""pynetdicom's parts with bounds on what a sender can make them hold, and on how long.

By itself pynetdicom reads a PDU of any announced length (up to 4 GiB), waits for the rest of it
for ever, keeps data sets of any size, queues any number of them, and does TLS handshakes one
after the other in the thread that accepts connections.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

_MAX_COMMAND_BYTES = 2048
"""A C-STORE request's command set takes about 300; nested sequences would take many more."""
_MIN_PDU_BYTES = 128 * 1024
"""An association request with 128 presentation contexts is longer than many a data PDU."""
_QUEUED_MESSAGES = 1
_ENDED = (None, None)
_RECEIVE_BYTES = 64 * 1024
_WAITING_FOR_CLOSE = "Sta13"
_OUR_REQUESTS = frozenset({"Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
"""What this side wants to say; none has an action in that state (PS3.8, table 9-10)."""


@dataclass(frozen=True)
class Bounds:
    """What one sender may use.

    Attributes:
        pdu_bytes: longest protocol data unit.
        dataset_bytes: largest data set; of a larger one the rest is dropped, so that it can
            still be answered with a status. One byte more than this is kept, to tell.
        connections: open at once, associated or not.
        seconds: for one PDU to come, or for a TLS handshake.
        may_connect: whether an address may connect at all.
        on_refusal: told why a connection was closed before it became an association.
    """

    pdu_bytes: int
    dataset_bytes: int
    connections: int
    seconds: float
    may_connect: Callable[[str], bool]
    on_refusal: Callable[[str], None]


class BoundedEntity(ApplicationEntity):
    """An application entity whose servers have bounds.

    Args:
        ae_title: its title.
        bounds: for each sender.
    """

    def __init__(self, ae_title: str, bounds: Bounds) -> None:
        super().__init__(ae_title)
        self.bounds = bounds

    def make_server(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as it is there
        """The server that `start_server` starts."""
        return super().make_server(
            *args, **{**kwargs, "server_class": _Server, "request_handler": _Handler}
        )


class _Server(ThreadedAssociationServer):
    """Accepts, and leaves everything that can take time to a thread of its own."""

    ae: BoundedEntity
    daemon_threads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as it is there
        self._starting = 0
        self._lock = threading.Lock()
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.settimeout(self.ae.bounds.seconds)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002
        bounds = self.ae.bounds
        if not bounds.may_connect(client_address[0]):
            bounds.on_refusal("address")
            return False
        if len(self.active_associations) + self._starting >= bounds.connections:
            bounds.on_refusal("too-many")
            return False
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        # The original prints a traceback with the sender's address.
        self.ae.bounds.on_refusal("handshake")

    @contextmanager
    def starting(self) -> Iterator[None]:
        """While a connection is not yet an association."""
        with self._lock:
            self._starting += 1
        try:
            yield
        finally:
            with self._lock:
                self._starting -= 1


class _Handler(RequestHandler):
    """Turns a connection into an association with bounds."""

    server: _Server

    def handle(self) -> None:
        """Start an association, and close the connection when it has ended.

        pynetdicom leaves that to the garbage collector where the sender hangs up first.
        """
        with self.server.starting():
            context = self.server.ssl_context
            if context is not None:
                # Has the connection's timeout. A failure ends in `handle_error`.
                self.request: socket.socket = context.wrap_socket(self.request, server_side=True)
            super().handle()
        self._association.join()
        self.request.close()

    def _create_association(self) -> Association:
        association = self._association = super()._create_association()
        bounds = self.server.ae.bounds
        association.dul.socket = _BoundedSocket(association, self.request, bounds)
        # Each socket announces itself; one announcement is enough.
        association.dul.event_queue.get_nowait()
        association.dimse = _BoundedDimse(association, bounds.dataset_bytes)
        association.dul.state_machine = _StateMachine(association.dul)
        return association


class _BoundedSocket(AssociationSocket):
    """Reads PDUs of a limited length within a limited time."""

    def __init__(self, association: Association, connection: socket.socket, bounds: Bounds) -> None:
        super().__init__(association, client_socket=connection)
        self._longest = max(_MIN_PDU_BYTES, bounds.pdu_bytes)
        self._seconds = bounds.seconds

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes; fewer only where the connection has ended.

        Raises:
            OSError: too many are announced, or they do not come; the association then ends.
        """
        connection = self.socket
        if connection is None or nr_bytes > self._longest:
            raise OSError("a PDU over the limit")
        received = bytearray()
        deadline = time.monotonic() + self._seconds
        try:
            while len(received) < nr_bytes:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                part = connection.recv(min(_RECEIVE_BYTES, nr_bytes - len(received)))
                if not part:
                    break
                received += part
        finally:
            connection.settimeout(self._seconds)
        return received


class _StateMachine(StateMachine):
    """Says nothing more to a sender whose association has been aborted.

    A message of it was in work meanwhile, and is answered. pynetdicom takes that for a fault,
    and ends the thread that has to close the connection.
    """

    def do_action(self, event: str) -> None:
        """Act on an event."""
        if self.current_state == _WAITING_FOR_CLOSE and event in _OUR_REQUESTS:
            self.dul.to_provider_queue.get(block=False)  # or it would be an event again
        else:
            super().do_action(event)


class _Messages(queue.Queue[Any]):
    """Never waits: that would stop the thread that reads, and that also has to send an abort."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ANN401, ARG002
        """Add one.

        Raises:
            queue.Full: the sender does not wait for answers, although it may not do so without
                an asynchronous operations window (PS3.7, D.3.3.3).
        """
        try:
            super().put(item, block=False)
        except queue.Full:
            # The mark that the connection has ended, which nobody waits for who has a message
            # left to take. Raised, it would end the thread that has to end the association.
            if item != _ENDED:
                raise


class _BoundedDimse(DIMSEServiceProvider):
    """Keeps a limited part of a message, and a limited number of messages."""

    def __init__(self, association: Association, dataset_bytes: int) -> None:
        super().__init__(association)
        self._dataset_bytes = dataset_bytes
        self.msg_queue = _Messages(_QUEUED_MESSAGES)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Called in the thread that reads the connection."""
        try:
            self._shorten(primitive)
            super().receive_primitive(primitive)
        except Exception:
            # Not a word of it: it may quote the sender's data. Event 19 of PS3.8, table 9-10 is
            # an invalid PDU; the association is aborted.
            self.dul.event_queue.put("Evt19")

    def _shorten(self, primitive: P_DATA) -> None:
        """Drop what is over the limits, but not the flags of what is dropped (PS3.8, E.2)."""
        kept: list[Any] = []
        dataset, command = self._lengths()
        for context_id, fragment in primitive.presentation_data_value_list:
            size = len(fragment) - 1
            if fragment[0] & 1:
                command += size
                if command > _MAX_COMMAND_BYTES:
                    raise ValueError("a command set over the limit")
            elif dataset + size > self._dataset_bytes:
                room = max(0, self._dataset_bytes + 1 - dataset)
                fragment, size = fragment[: 1 + room], room
            if not fragment[0] & 1:
                dataset += size
            kept.append([context_id, fragment])  # a list, whatever its annotation says
        primitive.presentation_data_value_list = kept

    def _lengths(self) -> tuple[int, int]:
        """Bytes of the data set and command set that have come so far."""
        message = self.message
        if message is None:
            return 0, 0
        data_set = message.data_set
        return (
            data_set.getbuffer().nbytes if isinstance(data_set, BytesIO) else 0,
            message.encoded_command_set.getbuffer().nbytes,
        )


def tls_context(certificate: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """A server's context, TLS 1.2 or newer (PS3.15, B.9: BCP 195).

    Args:
        certificate: file of our chain.
        key: file of its key.
        client_ca: file of issuers of senders' certificates; these are then required.

    Raises:
        OSError: a file is missing or no certificate (`ssl.SSLError` is one).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
