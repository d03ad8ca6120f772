"""Where received instances go: the seam between what takes them in and what works on them.

The intake (STOW-RS, C-STORE) decides by its rules what is to be made of an instance, and hands
it to a `Receiver`, which keeps it durably. Knows neither the network nor the queue.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from llmcxr_service.source_instance import SourceInstance


class Origin(StrEnum):
    """How an instance came."""

    STOW = "stow"
    DIMSE = "dimse"


class Output(StrEnum):
    """What can be made of a drafted report, as rules name it."""

    ENHANCED_SR = "enhanced-sr"
    """The text: DICOM Enhanced SR, TID 2000."""
    COMPREHENSIVE_3D_SR = "comprehensive-3d-sr"
    """The findings with probabilities: DICOM Comprehensive 3D SR, TID 1500."""
    SECONDARY_CAPTURE = "secondary-capture"
    """The report as a page: DICOM Secondary Capture."""
    FHIR = "fhir"
    """FHIR R4B DiagnosticReport."""
    HL7 = "hl7"
    """HL7 v2 ORU^R01."""


@dataclass(frozen=True)
class Order:
    """What a rule asks for.

    Attributes:
        rule: the rule's name; it may be logged.
        outputs: what to make; not empty.
        destinations: where it goes, by the names that the configuration gives them. Each
            destination gets those of the outputs that it can take.
    """

    rule: str
    outputs: tuple[Output, ...]
    destinations: tuple[str, ...]


@dataclass(frozen=True)
class Received:
    """One instance that is to be worked on.

    Attributes:
        origin: how it came.
        caller: calling AE title, or the name that authentication gave an HTTP caller; empty
            where there is none.
        order: what is to be made of it.
        source: who and what it is about.
    """

    origin: Origin
    caller: str = field(repr=False)
    order: Order
    source: SourceInstance = field(repr=False)

    def work_key(self, model_digest: str) -> str:
        """The same for an instance that comes again: it is worked on once.

        Hashed, because the instance's UID must not reach a log by way of the queue.

        Args:
            model_digest: of the checkpoint; another model makes another report.
        """
        parts = (
            self.source.sop_instance_uid,
            self.order.rule,
            *self.order.outputs,
            "",
            *self.order.destinations,
            "",
            model_digest,
        )
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


class Receiver(Protocol):
    """Takes responsibility for instances."""

    async def submit(self, instance: bytes, received: Received) -> None:
        """Keep an instance and its order; when this returns they survive a `kill -9`.

        Submitting the same `work_key` again does nothing.

        Args:
            instance: a DICOM file (PS3.10), as it came.
            received: what is known of it.

        Raises:
            ReceiverUnavailable: it is not kept; the sender has to try again.
        """
        ...
