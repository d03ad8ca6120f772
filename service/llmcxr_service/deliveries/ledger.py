"""The queue's records: what is in it, and what an administrator does with them.

Works on the database alone, so the command line uses it while the gateway is down. Blocking.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType

from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus

from llmcxr_service.deliveries.work import APPLICATION, DEAD, State, Work
from llmcxr_service.errors import UnknownDelivery

_ID = re.compile(r"[0-9a-f]{32}\.[a-z][a-z0-9-]{0,31}")
_NAMES = ["draft", "send", DEAD]
_OPEN = ["ENQUEUED", "DELAYED", "PENDING"]
_STATES = {
    "ENQUEUED": State.QUEUED,
    "DELAYED": State.WAITING,
    "PENDING": State.WORKING,
    "SUCCESS": State.DONE,
    "CANCELLED": State.DISCARDED,
}
_STATUSES = {state: status for status, state in _STATES.items()}
_PAGE = 500
_LONGEST_LIST = 10_000


@dataclass(frozen=True)
class Entry:
    """One attempt, or what became of the delivery after its last.

    Attributes:
        work: what it is.
        state: where it stands.
        reason: why it failed, or failed the last time; empty where it did not.
        created: of this attempt, seconds since the epoch.
        changed: last change, seconds since the epoch.
        due: when a waiting one is tried next, seconds since the epoch.
    """

    work: Work
    state: State
    reason: str
    created: float
    changed: float
    due: float | None


class Ledger:
    """Reads and changes the queue.

    Args:
        database_url: of DBOS's system database, which must exist.
    """

    def __init__(self, database_url: str) -> None:
        self._client = DBOSClient(
            system_database_url=database_url,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )

    def __enter__(self) -> Ledger:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give connections back."""
        self._client.destroy()

    def enqueue(self, work: Work) -> None:
        """Put work in its queue; the same attempt again changes nothing."""
        self._client.enqueue(options(work), work.to_json())

    def knows(self, job: str) -> bool:
        """Whether there is anything of a job."""
        return bool(self._rows(workflow_id_prefix=f"{job}.", limit=1))

    def entries(self, *, state: State | None = None, limit: int = 100) -> list[Entry]:
        """The newest deliveries, one entry each, newest first.

        Args:
            state: only those in this state.
            limit: at most so many.
        """
        if state is State.FAILED:  # such an attempt is never the newest of its delivery
            return []
        found: list[Entry] = []
        for row in self._newest(state):
            entry = _entry(row)
            # Another attempt followed a failed one, or a record of giving up.
            if entry.state is State.FAILED or state not in (None, entry.state):
                continue
            found.append(entry)
            if len(found) >= limit:
                break
        return found

    def open_entries(self) -> list[Entry]:
        """All that is queued, waiting, in work or given up."""
        return [_entry(row) for row in self._rows(status=_OPEN, limit=_LONGEST_LIST)]

    def history(self, delivery: str) -> list[Entry]:
        """Every attempt of one delivery, oldest first.

        Raises:
            UnknownDelivery: there is none of this id.
        """
        rows = self._rows_of(delivery)
        return [
            _entry(row)
            for row in rows
            if not (row.status == "SUCCESS" and (row.output or {}).get("state") == DEAD)
        ]

    def resend(self, delivery: str) -> None:
        """Send it now: again where it was given up, discarded or done, sooner where it waits.

        Raises:
            UnknownDelivery: there is none of this id.
        """
        row = self._rows_of(delivery)[-1]
        entry = _entry(row)
        if entry.state is State.WAITING:
            self._client.set_workflow_delay(row.workflow_id, delay_seconds=0)
        elif entry.state in (State.DEAD, State.DISCARDED, State.DONE):
            self.enqueue(entry.work.next(reason="", failures=0, since=time.time()))
            if entry.state is State.DEAD:
                self._client.delete_workflow(row.workflow_id)

    def discard(self, delivery: str) -> None:
        """Give a delivery up for good, unless it is done.

        Raises:
            UnknownDelivery: there is none of this id, or it is done.
        """
        row = self._rows_of(delivery)[-1]
        if _entry(row).state is State.DONE:
            raise UnknownDelivery("It is done; there is nothing to discard.")
        self._client.cancel_workflow(row.workflow_id)

    def take_over(self, replica: str) -> int:
        """Give what a dead replica had in work back to the queue; how much that was."""
        # Of any name: jobs are in the same database.
        ids = self.pending(replica)
        if ids:
            self.give_back(ids)
        return len(ids)

    def pending(self, replica: str) -> set[str]:
        """Ids of what a replica has in work, of any name."""
        rows = self._client.list_workflows(
            status="PENDING", executor_id=replica, limit=_LONGEST_LIST
        )
        return {row.workflow_id for row in rows}

    def give_back(self, ids: Collection[str]) -> None:
        """Back to the queue with them."""
        self._client.resume_workflows(list(ids))

    def forget_before(self, seconds_ago: float) -> None:
        """Remove records of what was finished so long ago."""
        before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))
        while rows := self._rows(
            status=["SUCCESS", "CANCELLED", "ERROR"], completed_before=before, limit=_PAGE
        ):
            self._client.delete_workflows([row.workflow_id for row in rows])

    def _rows(self, **filters: object) -> list[WorkflowStatus]:
        return self._client.list_workflows(name=_NAMES, **filters)  # type: ignore[arg-type]

    def _rows_of(self, delivery: str) -> list[WorkflowStatus]:
        rows = []
        if _ID.fullmatch(delivery):
            rows = self._rows(workflow_id_prefix=f"{delivery}.")
        if not rows:
            raise UnknownDelivery("There is no such delivery.")
        return sorted(rows, key=_order)

    def _newest(self, state: State | None) -> Iterator[WorkflowStatus]:
        filters: dict[str, object] = {}
        if state is State.DEAD:
            filters = {"status": "ENQUEUED", "queue_name": DEAD}
        elif state is not None:
            filters = {"status": _STATUSES[state]}
        for offset in range(0, _LONGEST_LIST, _PAGE):
            rows = self._rows(sort_desc=True, limit=_PAGE, offset=offset, **filters)
            yield from rows
            if len(rows) < _PAGE:
                return


def options(work: Work) -> EnqueueOptions:
    """How a piece of work is put in its queue, from outside or from within another."""
    return {
        "workflow_name": work.workflow,
        "queue_name": work.queue,
        "workflow_id": work.workflow_id,
    }


def _order(row: WorkflowStatus) -> tuple[int, bool]:
    _, _, attempt, *rest = row.workflow_id.split(".")
    return int(attempt), bool(rest)


def _followed(row: WorkflowStatus) -> bool:
    return row.status == "SUCCESS" and (row.output or {}).get("state") in ("retry", DEAD)


def _entry(row: WorkflowStatus) -> Entry:
    assert row.input is not None
    work = Work.from_json(row.input["args"][0])
    state = State.FAILED if _followed(row) else _STATES.get(row.status, State.DEAD)
    reason = work.reason
    if row.status == "SUCCESS":
        reason = (row.output or {}).get("reason", "")
    if row.name == DEAD and state is State.QUEUED:
        state = State.DEAD
    due = row.delay_until_epoch_ms
    return Entry(
        work=work,
        state=state,
        reason=reason,
        created=(row.created_at or 0) / 1000.0,
        changed=(row.updated_at or 0) / 1000.0,
        due=due / 1000.0 if due is not None and state is State.WAITING else None,
    )
