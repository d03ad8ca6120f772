"""Instances that came by DIMSE as events of the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from llmcxr_service.audit_log import STORE, AuditLog, Event
from llmcxr_service.auditing import append
from llmcxr_service.intake_dicom.reception import Outcome, Verdict

Note = Callable[[str, Outcome], None]
"""Told who sent an instance (calling AE title) and what became of it; on the event loop."""

_STATUS = {Verdict.NOT_QUEUED: 503, Verdict.FAILED: 500}


def note_in(log: AuditLog | None, on_failure: Callable[[], None]) -> Note:
    """How receptions are noted.

    Args:
        log: where; None: nowhere.
        on_failure: told of every event that is lost.
    """

    def note(ae_title: str, outcome: Outcome) -> None:
        if log is None:
            return
        verdict = outcome.verdict
        status = 200 if verdict.is_success else _STATUS.get(verdict, 422)
        event = Event(
            id=uuid.uuid4().hex,
            method=STORE,
            route="",
            status=status,
            reason="" if verdict.is_success else verdict.word,
            # A title is no key's or token's id, and shall not be taken for one.
            caller=f"ae:{ae_title}" if ae_title else "",
            instance=outcome.source.sop_instance_uid if outcome.source else "",
        )
        append(log, event, on_failure)

    return note
