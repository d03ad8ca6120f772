"""The worker: runs attempts from the queue. What survives a crash is decided here.

An attempt is one DBOS workflow with one step, which says what became of it; the workflow then
enqueues what follows under an id that the attempt determines. A crash before the step's result
is recorded repeats the step, with the same bytes; one after it repeats nothing but the enqueue,
which is idempotent. Nothing here raises out of a workflow.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from llmcxr_models.errors import CxrError, InvalidInput
from llmcxr_service.deliveries.destinations import DRAFT, Destination, Destinations, takes
from llmcxr_service.deliveries.ledger import options
from llmcxr_service.deliveries.measures import Measures
from llmcxr_service.deliveries.outcome import HARMLESS, Reason, SendFailed
from llmcxr_service.deliveries.retry import Circuit, backoff
from llmcxr_service.deliveries.sending import Parcel, Send
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.deliveries.work import APPLICATION, DEAD, Also, Work, queue_of
from llmcxr_service.receiving import Output

LOGGER = logging.getLogger(__name__)

VERSION = "deliveries-1"
"""Of the workflows: recovery runs only those of its own version. Change it with their steps."""

MAKE_DRAFT_GIVE_UP_HOURS = 72.0
_STOP_SECONDS = 10
_LOOK_SECONDS = 0.5

Workflow = Callable[[dict[str, Any]], dict[str, Any]]
MakeDraft = Callable[[str, tuple[Output, ...]], None]
"""Makes and keeps the outputs of a job; blocking. Raises CxrError."""


class _NotRecorded(BaseException):
    """The database did not take what became of an attempt.

    No `Exception`, or DBOS would write the workflow down as failed for good as soon as it can
    write again. So it is as after a crash: the attempt is in work, and nobody works on it.
    """


@dataclass(frozen=True)
class Parts:
    """What the worker works with.

    Attributes:
        destinations: from the file.
        spool: the files.
        make_draft: makes reports.
        senders: by the destination's kind.
        measures: where to count.
    """

    destinations: Destinations
    spool: Spool
    make_draft: MakeDraft
    senders: Mapping[str, Send]
    measures: Measures


class Worker:
    """Works on the queue between `start` and `stop`; one in a process, since DBOS is.

    Args:
        parts: what it works with.
        database_url: of the queue; made where it is an SQLite file that is absent.
        replica: this process's name among all that share the database.
        also: what else is worked on.
    """

    def __init__(
        self, parts: Parts, database_url: str, replica: str, also: Also | None = None
    ) -> None:
        self._parts = parts
        self._also = also or Also()
        self._destinations = parts.destinations.by_name
        self._queue = parts.destinations.queue
        self._circuits = {name: Circuit() for name in self._destinations}
        self._stopping = threading.Event()
        self.running = Running()
        self._dice = random.Random()  # noqa: S311 - jitter
        self._config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": database_url,
            "application_version": VERSION,
            "executor_id": replica,
            "serializer": DBOSPortableJSONSerializer(),
            "enable_otlp": False,
            "log_level": "WARNING",
            "use_listen_notify": False,
        }

    def start(self) -> None:
        """Open the database, recover what this replica had in work, and begin. Blocking."""
        DBOS.destroy(destroy_registry=True)
        # DBOS's own handler would write its own format, with exceptions' texts.
        logger = logging.getLogger("dbos")
        ours = logging.getLogger("llmcxr_service").handlers
        # A list of its own, never empty: to an empty one DBOS adds its handler.
        logger.handlers, logger.propagate = [*ours, logging.NullHandler()], False
        DBOS(config=self._config)
        self._register()
        limits = {DRAFT: self._queue.drafts}
        limits |= {name: d.concurrency for name, d in self._destinations.items()}
        # Queues of destinations that are not configured any more are served too: what is left
        # in them is given up where an administrator sees it. The queue of the dead is never
        # registered, so nobody serves it.
        DBOS.launch()
        for target, limit in limits.items():
            DBOS.register_queue(
                queue_of(target),
                worker_concurrency=limit,
                polling_interval_sec=self._queue.poll_seconds,
                on_conflict="always_update",
            )
        for name, limit in self._also.queues.items():
            DBOS.register_queue(
                name,
                worker_concurrency=limit,
                polling_interval_sec=self._also.poll_seconds,
                on_conflict="always_update",
            )

    def _register(self) -> None:
        """Tell DBOS the workflows; it marks functions, so methods will not do."""

        def draft(data: dict[str, Any]) -> dict[str, Any]:
            return self._draft(data)

        def send(data: dict[str, Any]) -> dict[str, Any]:
            return self._send(data)

        for function in (draft, send):
            # A gateway that dies often is no reason to give work up: attempts are counted by us.
            self._tell(function.__name__, function)
        for name, workflow in self._also.workflows.items():
            self._tell(name, workflow)

    def _tell(self, name: str, workflow: Workflow) -> None:
        function = self.running.watched(workflow)
        DBOS.workflow(name=name, max_recovery_attempts=None)(function)

    def stop(self) -> None:
        """Let attempts in work end for some seconds; the rest is recovered at the next start."""
        self._stopping.set()
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=_STOP_SECONDS)

    @property
    def open_circuits(self) -> dict[str, bool]:
        """Whether each destination counts as down."""
        return {name: circuit.is_open for name, circuit in self._circuits.items()}

    def _draft(self, data: dict[str, Any]) -> dict[str, Any]:
        work = Work.from_json(data)
        result = DBOS.run_step({"name": "draft"}, self._draft_once, work)
        if result["state"] == "done":
            self._fan_out(work, result)
            return result
        return _follow_up(work, result)

    def _send(self, data: dict[str, Any]) -> dict[str, Any]:
        work = Work.from_json(data)
        # Outside of the step: a delivery that is discarded meanwhile is not sent.
        self._wait_for_circuit(work.target)
        result = DBOS.run_step({"name": "send"}, self._send_once, work)
        return result if result["state"] == "done" else _follow_up(work, result)

    def _fan_out(self, work: Work, result: dict[str, Any]) -> None:
        """One delivery for each destination, of what it takes and could be made."""
        for name in work.destinations:
            destination = self._destinations.get(name)
            wanted = tuple(
                output
                for output in work.outputs
                if destination is None or takes(destination, Output(output))
            )
            made = tuple(output for output in wanted if output in result["made"])
            following = Work(work.job, name, 1, 0, result["now"], made or wanted)
            if made:
                _enqueue(following)
            elif wanted:
                _give_up(following, Reason.UNUSABLE)

    def _draft_once(self, work: Work) -> dict[str, Any]:
        """Make the report once: where it is made already, the crash came right after."""
        outputs = tuple(Output(output) for output in work.outputs)
        try:
            if not self._parts.spool.has_outputs(work.job):
                self._parts.make_draft(work.job, outputs)
        except Exception as error:
            return self._failure(work, _draft_failure(error), MAKE_DRAFT_GIVE_UP_HOURS)
        return {**self._success(work), "made": self._parts.spool.outputs(work.job)}

    def _send_once(self, work: Work) -> dict[str, Any]:
        destination = self._destinations.get(work.target)
        if destination is None:
            failure = SendFailed("It is not configured.", Reason.NO_DESTINATION)
            return self._failure(work, failure, 0.0)
        circuit = self._circuits[work.target]
        try:
            if self._stopping.is_set():
                raise SendFailed("The service stops.", Reason.STOPPED, retry_after_seconds=0.0)
            self._hand_over(destination, work)
        except Exception as error:
            failure = _send_failure(error)
            circuit.abandoned() if failure.cause in HARMLESS else circuit.failed()
            return self._failure(work, failure, destination.give_up_hours)
        circuit.succeeded()
        return self._success(work)

    def _hand_over(self, destination: Destination, work: Work) -> None:
        parcels = []
        for name in work.outputs:
            data = self._parts.spool.output(work.job, name)
            if data is None:
                raise SendFailed("It is not in the spool any more.", Reason.MISSING)
            parcels.append(Parcel(Output(name), data))
        started = time.monotonic()
        send = self._parts.senders[destination.kind]
        send(destination, tuple(parcels), again=work.attempt > 1)
        self._parts.measures.seconds.labels(destination.name).observe(time.monotonic() - started)

    def _wait_for_circuit(self, target: str) -> None:
        circuit = self._circuits.get(target)
        while circuit is not None and not self._stopping.is_set():
            seconds = circuit.seconds_to_wait()
            if seconds == 0:
                return
            self._stopping.wait(min(seconds, _LOOK_SECONDS))

    def _success(self, work: Work) -> dict[str, Any]:
        self._parts.measures.count(work.target, "done")
        return {"state": "done", "now": time.time()}

    def _failure(self, work: Work, failure: SendFailed, give_up_hours: float) -> dict[str, Any]:
        """What is to follow, decided once and recorded with the step."""
        late = time.time() - work.since >= give_up_hours * 3600.0
        dead = failure.is_permanent or (late and failure.cause is not Reason.STOPPED)
        pause = failure.retry_after_seconds
        if pause is None:
            pause = backoff(
                work.failures + 1,
                first_seconds=self._queue.first_retry_seconds,
                longest_seconds=self._queue.longest_retry_seconds,
                dice=self._dice,
            )
        state = DEAD if dead else "retry"
        self._parts.measures.count(work.target, state, failure.cause)
        fields = {"target": work.target, "reason": failure.cause.value, "attempt": work.attempt}
        LOGGER.warning("delivery %s", state, extra={"fields": {"job": work.job, **fields}})
        return {"state": state, "reason": failure.cause.value, "pause": pause}


class Running:
    """Which workflows run in this process."""

    def __init__(self) -> None:
        self._ids: Counter[str] = Counter()
        self._lock = threading.Lock()

    def ids(self) -> frozenset[str]:
        """Of those that run now."""
        with self._lock:
            return frozenset(self._ids)

    def watched(self, workflow: Workflow) -> Workflow:
        """The same as a function that DBOS can mark."""

        def run(data: dict[str, Any]) -> dict[str, Any]:
            with self._noted(str(DBOS.workflow_id)):
                try:
                    return workflow(data)
                except SQLAlchemyError as error:
                    raise _NotRecorded(type(error).__name__) from None

        return run

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        with self._lock:
            self._ids[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._ids[name] -= 1
                self._ids += Counter()  # forgets those at 0


def _follow_up(work: Work, result: dict[str, Any]) -> dict[str, Any]:
    if result["state"] == DEAD:
        _give_up(work, Reason(result["reason"]))
        return result
    stopped = result["reason"] == Reason.STOPPED
    failures = work.failures if stopped else work.failures + 1
    _enqueue(work.next(reason=result["reason"], failures=failures), result["pause"])
    return result


def _give_up(work: Work, reason: Reason) -> None:
    """Keep it where nobody works on it; the ledger's resend takes it from there."""
    DBOS.enqueue_workflow_with_options(
        {
            "workflow_name": DEAD,
            "queue_name": DEAD,
            "workflow_id": f"{work.workflow_id}.{DEAD}",
        },
        replace(work, reason=reason.value).to_json(),
    )


def _enqueue(work: Work, delay_seconds: float = 0.0) -> None:
    how = options(work)
    if delay_seconds > 0:
        how["delay_seconds"] = delay_seconds
    DBOS.enqueue_workflow_with_options(how, work.to_json())


def _draft_failure(error: Exception) -> SendFailed:
    if isinstance(error, SendFailed):
        return error
    if isinstance(error, InvalidInput):
        return SendFailed("The instance cannot be used.", Reason.UNUSABLE)
    if isinstance(error, CxrError):
        # The language model may know when it is ready; doubling the pause would wait longer.
        pause = getattr(error, "retry_after_seconds", None)
        return SendFailed("The report was not made.", Reason.GENERATOR, retry_after_seconds=pause)
    return _unforeseen(error)


def _send_failure(error: Exception) -> SendFailed:
    return error if isinstance(error, SendFailed) else _unforeseen(error)


def _unforeseen(error: Exception) -> SendFailed:
    if isinstance(error, CancelledError):
        return SendFailed("The service stops.", Reason.STOPPED, retry_after_seconds=0.0)
    # Its text may quote data; the class does not.
    fields = {"exception": type(error).__name__}
    LOGGER.error("unforeseen failure in a delivery", extra={"fields": fields})
    return SendFailed("Something unforeseen happened.", Reason.INTERNAL)
