"""One received instance: who is it, what do the rules say, and into the queue with it.

The same for every way in. Knows neither DIMSE nor HTTP, but the status codes that both share.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum

from llmcxr_models.errors import InvalidInput
from llmcxr_service.errors import DecoderUnavailable, Overloaded, ReceiverUnavailable
from llmcxr_service.intake_dicom.rules import Facts, Rules
from llmcxr_service.receiving import Origin, Received, Receiver
from llmcxr_service.source_instance import SourceInstance

LOGGER = logging.getLogger(__name__)

Identify = Callable[[bytes], Awaitable[SourceInstance]]
"""`source_instance.identify` where hostile bytes may be parsed; `DecodePool.identify` is one."""


class Verdict(Enum):
    """What became of an instance: a word for metrics, and its status.

    The status is C-STORE's (PS3.7, annex C; PS3.4, table B.2-1) and STOW-RS's Failure Reason
    (PS3.18, table 10.5.3-2), which are the same numbers.
    """

    QUEUED = ("queued", 0x0000)
    IGNORED = ("ignored", 0x0000)
    NOT_QUEUED = ("not-queued", 0xA700)
    OTHER_SOP_INSTANCE = ("other-sop-instance", 0xA900)
    OTHER_STUDY = ("other-study", 0xA901)
    NOT_UNDERSTOOD = ("not-understood", 0xC000)
    TOO_LARGE = ("too-large", 0xC001)
    TRANSFER_SYNTAX = ("transfer-syntax", 0xC122)
    SOP_CLASS = ("sop-class", 0x0122)
    FAILED = ("failed", 0x0110)

    def __init__(self, word: str, status: int) -> None:
        self.word = word
        self.status = status

    @property
    def is_success(self) -> bool:
        """Whether the sender may forget the instance."""
        return self.status == 0


@dataclass(frozen=True)
class Outcome:
    """What became of one instance.

    Attributes:
        verdict: see there.
        source: its identity, where it could be read.
    """

    verdict: Verdict
    source: SourceInstance | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Announced:
    """What a sender said beforehand; empty parts were not said.

    Attributes:
        sop_class_uid: of a C-STORE request.
        sop_instance_uid: of a C-STORE request.
        study_instance_uid: of the URL that was posted to.
    """

    sop_class_uid: str = field(default="", repr=False)
    sop_instance_uid: str = field(default="", repr=False)
    study_instance_uid: str = field(default="", repr=False)

    def contradicted_by(self, source: SourceInstance) -> Verdict | None:
        """How the instance is another one than was announced."""
        if self.sop_class_uid not in ("", source.sop_class_uid) or (
            self.sop_instance_uid not in ("", source.sop_instance_uid)
        ):
            return Verdict.OTHER_SOP_INSTANCE
        if self.study_instance_uid not in ("", source.study_instance_uid):
            return Verdict.OTHER_STUDY
        return None


class Reception:
    """Takes instances in.

    Args:
        rules: what to do with them.
        receiver: keeps those that are to be worked on.
        identify: reads headers.
        sop_classes: UIDs of what is taken.
        max_bytes: of one instance.
        count: told origin and verdict of every instance.
    """

    def __init__(
        self,
        rules: Rules,
        receiver: Receiver,
        identify: Identify,
        *,
        sop_classes: frozenset[str],
        max_bytes: int,
        count: Callable[[Origin, Verdict], None],
    ) -> None:
        self._rules = rules
        self._receiver = receiver
        self._identify = identify
        self.sop_classes = sop_classes
        self.max_bytes = max_bytes
        self._count = count

    async def take(
        self, instance: bytes, origin: Origin, caller: str, announced: Announced | None = None
    ) -> Outcome:
        """Do what the rules say; on a success the instance is kept durably, or not wanted.

        Never raises but for cancellation: whatever goes wrong is a verdict for the sender.

        Args:
            instance: a DICOM file (PS3.10).
            origin: how it came.
            caller: calling AE title, or the name of an HTTP caller.
            announced: what the sender said of it beforehand.
        """
        try:
            outcome = await self._take(instance, origin, caller, announced or Announced())
        except Exception as error:
            # Only the class: a message may quote the header.
            fields = {"origin": origin, "exception": type(error).__name__}
            LOGGER.error("instance failed", extra={"fields": fields})
            outcome = Outcome(Verdict.FAILED)
        self._count(origin, outcome.verdict)
        return outcome

    def refuse_too_large(self, origin: Origin) -> Outcome:
        """The outcome of an instance over the limit, which was not kept in memory."""
        self._count(origin, Verdict.TOO_LARGE)
        return Outcome(Verdict.TOO_LARGE)

    async def _take(
        self, instance: bytes, origin: Origin, caller: str, announced: Announced
    ) -> Outcome:
        # 1. Who is it?
        if len(instance) > self.max_bytes:
            return Outcome(Verdict.TOO_LARGE)
        if instance[128:132] != b"DICM":  # not worth a process
            return Outcome(Verdict.NOT_UNDERSTOOD)
        try:
            source = await self._identify(instance)
        except InvalidInput as error:
            return Outcome(_not_understood(error))
        except (Overloaded, DecoderUnavailable):
            return Outcome(Verdict.NOT_QUEUED)
        # 2. Is it what was announced, and of a kind that is taken?
        contradiction = announced.contradicted_by(source)
        if contradiction is not None:
            return Outcome(contradiction, source)
        if source.sop_class_uid not in self.sop_classes:
            return Outcome(Verdict.SOP_CLASS, source)
        # 3. What is to be made of it?
        decision = self._rules.decide(Facts(origin, caller, source))
        _log_decision(origin, decision.rule)
        if decision.order is None:
            return Outcome(Verdict.IGNORED, source)
        # 4. Into the queue.
        try:
            await self._receiver.submit(instance, Received(origin, caller, decision.order, source))
        except ReceiverUnavailable:
            return Outcome(Verdict.NOT_QUEUED, source)
        return Outcome(Verdict.QUEUED, source)


def _not_understood(error: InvalidInput) -> Verdict:
    if error.reason == "transfer-syntax":
        return Verdict.TRANSFER_SYNTAX
    return Verdict.NOT_UNDERSTOOD


def _log_decision(origin: Origin, rule: str) -> None:
    LOGGER.info("instance received", extra={"fields": {"origin": origin, "rule": rule}})
