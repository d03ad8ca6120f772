"""`llmcxr dicom-listen`: the DIMSE receiver as a process of its own, apart from the gateway.

It shares the queue's spool and database with the gateway, which does the work. A sender is thus
answered while the gateway restarts, and what pynetdicom parses is parsed elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

from sqlalchemy.exc import SQLAlchemyError

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.audit_log import AuditLog
from llmcxr_service.auditing import keep_synced
from llmcxr_service.decode_pool import FILES_PER_WORKER, DecodePool
from llmcxr_service.decode_template import WorkerOptions
from llmcxr_service.deliveries.ledger import Ledger
from llmcxr_service.deliveries.place import place_of
from llmcxr_service.deliveries.service import Deliveries
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.errors import ListenerError, RulesError
from llmcxr_service.intake_dicom.listening import check_receiving, make_dimse_receiver
from llmcxr_service.intake_dicom.opening import open_reception, read_rules
from llmcxr_service.observability import Metrics, configure_logging
from llmcxr_service.rendering import ModelIdentity
from llmcxr_service.settings import Settings

LOGGER = logging.getLogger(__name__)


def run_listener(settings: Settings, port: int) -> None:
    """Receive until SIGTERM or Ctrl-C.

    Args:
        settings: the configuration.
        port: to listen on.

    Raises:
        CxrError: a file cannot be used, the address is taken, or there is no queue yet.
    """
    configure_logging(settings.log_level)
    check_receiving(settings)
    asyncio.run(_listen(settings, port))


async def _listen(settings: Settings, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    rules = read_rules(settings)
    if rules is None:
        raise RulesError("LLMCXR_DICOM_RULES must name a file of rules.")
    async with AsyncExitStack() as stack:
        checkpoint = Checkpoint.open(settings.checkpoint, verify=False)
        pool = DecodePool(
            WorkerOptions(
                pipeline=checkpoint.manifest.preprocessing.pipeline,
                memory_mib=settings.decode_memory_mib,
                seconds=settings.decode_timeout_seconds,
                files=FILES_PER_WORKER,
            ),
            workers=settings.decode_workers,
            on_restart=lambda _: None,
        )
        pool.start()
        stack.push_async_callback(pool.stop)
        queue = _open_queue(settings, ModelIdentity.of(checkpoint.manifest), stack)
        metrics = Metrics()
        reception = open_reception(settings, rules, queue, pool.identify, metrics)
        audit = _open_audit(settings)
        failures = metrics.audit_failures
        await stack.enter_async_context(keep_synced(audit, failures.labels("sync").inc))
        receiver = make_dimse_receiver(settings, port, reception, metrics, audit)
        await receiver.start()
        stack.push_async_callback(receiver.stop)
        await ended.wait()


def _open_audit(settings: Settings) -> AuditLog | None:
    """A log beside the gateway's: each has one process that appends to it."""
    return AuditLog(settings.audit, f"{settings.replica}-dicom") if settings.audit else None


def _open_queue(settings: Settings, model: ModelIdentity, stack: AsyncExitStack) -> Deliveries:
    """The queue as somebody who puts in; the gateway takes out."""
    place = place_of(settings)
    if not place.exists:
        raise ListenerError("There is no queue yet. Start the gateway once; it makes one.")
    try:
        ledger = Ledger(place.url)
    except SQLAlchemyError:
        # Its text quotes the URL.
        raise ListenerError("The queue's database cannot be used.") from None
    stack.callback(ledger.close)
    deliveries = Deliveries(ledger, Spool(place.spool), model)
    stack.callback(deliveries.close)
    return deliveries
