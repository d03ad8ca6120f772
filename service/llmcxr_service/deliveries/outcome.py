"""How a delivery can go wrong, in a closed set of words, and which of them are worth a retry."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an attempt failed. Safe as a metric's label and in a log."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    UNAUTHORIZED = "unauthorized"
    ASSOCIATION = "association"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server-error"
    PROTOCOL = "protocol"
    NOT_STORED = "not-stored"
    REFUSED = "refused"
    UNUSABLE = "unusable"
    GENERATOR = "generator"
    NO_DESTINATION = "no-destination"
    MISSING = "missing"
    STOPPED = "stopped"
    INTERNAL = "internal"


PERMANENT = frozenset({Reason.REFUSED, Reason.UNUSABLE, Reason.MISSING})
"""Trying the same object again cannot help; everything else may be mended at the other end.

Wrong credentials and a refused association count as passing on purpose: an administrator mends
them, and nothing should have to be sent again by hand afterwards.
"""

HARMLESS = frozenset({Reason.REFUSED, Reason.UNUSABLE, Reason.MISSING, Reason.STOPPED})
"""Say nothing of the destination's health: the circuit does not count these."""


class SendFailed(Exception):
    """One attempt failed. Nothing of the destination's answer is in the message.

    Attributes:
        cause: why.
        retry_after_seconds: how long the destination asked us to stay away, if it did.
    """

    def __init__(
        self, message: str, cause: Reason, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_permanent(self) -> bool:
        """Whether another attempt would be pointless."""
        return self.cause in PERMANENT


class DestinationsError(Exception):
    """The file of destinations cannot be used. For the operator; it names keys, never secrets."""
