"""The DIMSE receiver: C-STORE and C-ECHO as service class provider (PS3.4, annexes A and B).

Threads of pynetdicom on one side, the event loop with the reception on the other. Data sets are
handed on as bytes; none is decoded in this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pynetdicom import _config as pynetdicom_settings
from pynetdicom import events as evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from llmcxr_service.errors import ListenerError
from llmcxr_service.intake_dicom.bounded import BoundedEntity, Bounds, tls_context
from llmcxr_service.intake_dicom.callers import Callers
from llmcxr_service.intake_dicom.noting import Note
from llmcxr_service.intake_dicom.reception import Announced, Outcome, Reception, Verdict
from llmcxr_service.intake_dicom.sop_classes import TRANSFER_SYNTAXES
from llmcxr_service.outputs.dicom_object import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
)
from llmcxr_service.receiving import Origin

LOGGER = logging.getLogger(__name__)

_TAKE_SECONDS = 60.0
"""Senders give up at some time too; the instance then comes again and is recognised."""
_SPARE_CONNECTIONS = 4
"""Beyond twice the associations, so that one too many is still told why."""

# Its lines, and its default handlers, print data sets, titles and addresses.
_LIBRARY = logging.getLogger("pynetdicom")
_LIBRARY.addHandler(logging.NullHandler())
_LIBRARY.propagate = False
pynetdicom_settings.LOG_HANDLER_LEVEL = "none"


@dataclass(frozen=True)
class Tls:
    """Certificate files of the receiver.

    Attributes:
        certificate: our chain.
        key: its key.
        client_ca: issuers of senders' certificates, which are then required.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class DimseOptions:
    """How the receiver listens.

    Attributes:
        host: address.
        port: 0 is any free one.
        ae_title: ours; senders have to call it.
        callers: who may send.
        tls: absent: in clear.
        max_pdu_bytes: longest protocol data unit.
        max_associations: open at once.
        seconds: of silence, after which an association is aborted.
    """

    host: str
    port: int
    ae_title: str
    callers: Callers
    tls: Tls | None
    max_pdu_bytes: int
    max_associations: int
    seconds: float


class DimseReceiver:
    """Listens while it is started.

    Args:
        options: how.
        reception: takes what comes.
        count: told what happened to connections and associations, in a closed set of words.
        note: told who sent which instance.
    """

    def __init__(
        self,
        options: DimseOptions,
        reception: Reception,
        count: Callable[[str], None],
        note: Note,
    ) -> None:
        self._options = options
        self._reception = reception
        self._count = count
        self._note = note
        self._entity = self._make_entity()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ThreadedAssociationServer | None = None
        self.port = options.port

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenerError: the address is taken, or a certificate cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        options = self._options
        try:
            context = None
            if options.tls is not None:
                ca = options.tls.client_ca
                context = tls_context(
                    str(options.tls.certificate), str(options.tls.key), str(ca) if ca else None
                )
        except OSError:
            raise ListenerError("A certificate of the DIMSE receiver cannot be used.") from None
        try:
            server = self._entity.start_server(
                (options.host, options.port),
                block=False,
                ssl_context=context,
                evt_handlers=self._handlers(),
            )
        except OSError:
            raise ListenerError("The DIMSE receiver cannot listen on its address.") from None
        assert server is not None
        self._server = server
        self.port = server.server_address[1]
        fields = {"port": self.port, "tls": options.tls is not None}
        LOGGER.info("DIMSE receiver listens", extra={"fields": fields})

    async def stop(self) -> None:
        """Abort open associations and stop listening; instances in work are still taken."""
        if self._server is not None:
            await asyncio.to_thread(_stop, self._server)
            self._server = None

    def _make_entity(self) -> BoundedEntity:
        options = self._options
        bounds = Bounds(
            pdu_bytes=options.max_pdu_bytes,
            dataset_bytes=self._reception.max_bytes,
            connections=2 * options.max_associations + _SPARE_CONNECTIONS,
            seconds=options.seconds,
            may_connect=options.callers.may_connect,
            on_refusal=lambda why: self._count(f"refused-{why}"),
        )
        entity = BoundedEntity(options.ae_title, bounds)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = options.max_pdu_bytes
        entity.maximum_associations = options.max_associations
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = options.seconds
        entity.require_calling_aet = list(options.callers.ae_titles)
        entity.require_called_aet = True
        entity.add_supported_context(Verification)
        for sop_class in sorted(self._reception.sop_classes):
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        return entity

    def _handlers(self) -> list[evt.EventHandlerType]:
        count = self._count
        return [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ACCEPTED, lambda _: count("accepted")),
            (evt.EVT_REJECTED, lambda _: count("rejected")),
            (evt.EVT_RELEASED, lambda _: count("released")),
            (evt.EVT_ABORTED, lambda _: count("aborted")),
        ]

    def _on_store(self, event: evt.Event) -> int:
        """The status of one C-STORE request; in the association's thread."""
        request = event.request
        assert isinstance(request, C_STORE)
        assert isinstance(request.DataSet, BytesIO)
        assert self._loop is not None
        ae_title = event.assoc.requestor.ae_title
        if request.DataSet.getbuffer().nbytes > self._reception.max_bytes:
            outcome = self._reception.refuse_too_large(Origin.DIMSE)
            self._loop.call_soon_threadsafe(self._note, ae_title, outcome)
            return outcome.verdict.status
        announced = Announced(
            str(request.AffectedSOPClassUID or ""), str(request.AffectedSOPInstanceUID or "")
        )
        taking = asyncio.run_coroutine_threadsafe(
            self._take(event.encoded_dataset(), ae_title, announced), self._loop
        )
        try:
            return taking.result(_TAKE_SECONDS).verdict.status
        except (TimeoutError, CancelledError):
            taking.cancel()
            return Verdict.NOT_QUEUED.status

    async def _take(self, instance: bytes, ae_title: str, announced: Announced) -> Outcome:
        """On the event loop; what became of it is noted before the sender hears it."""
        try:
            outcome = await self._reception.take(instance, Origin.DIMSE, ae_title, announced)
        except asyncio.CancelledError:
            self._note(ae_title, Outcome(Verdict.NOT_QUEUED))
            raise
        self._note(ae_title, outcome)
        return outcome


def _stop(server: ThreadedAssociationServer) -> None:
    server.shutdown()
    for association in server.active_associations:
        association.abort()
