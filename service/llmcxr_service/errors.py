"""What only the HTTP side can get wrong, as branches of the product's error tree.

CxrError
|-- RequestError
|   |-- InvalidRequest          the request does not fit its schema
|   |-- NotAcceptable           no media type that the caller accepts
|   |-- BodyTooLarge            more bytes than the limit
|   `-- ClientClosedRequest     the caller went away; nobody reads this answer
|-- Overloaded                  too many requests in work; try again later
|-- DecoderUnavailable          no process can decode files at the moment
`-- ReceiverUnavailable         a received instance could not be kept; the sender must try again
"""

from __future__ import annotations

from dataclasses import dataclass

from llmcxr_models.errors import CxrError


class RequestError(CxrError):
    """The HTTP request itself cannot be used."""

    default_reason = "request"


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field; never the value that was sent.

    Attributes:
        field: its name, or `body`.
        problem: a sentence.
    """

    field: str
    problem: str


class InvalidRequest(RequestError):
    """The request does not fit its schema.

    Attributes:
        fields: what is wrong, field by field.
    """

    default_reason = "schema"

    def __init__(
        self, message: str, *, fields: tuple[FieldProblem, ...] = (), reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.fields = fields


class NotAcceptable(RequestError):
    """The caller accepts none of the media types that can be answered."""

    default_reason = "accept"


class BodyTooLarge(RequestError):
    """The body has more bytes than the limit."""

    default_reason = "body-size"


class BodyTooSlow(RequestError):
    """The body did not come within its time."""

    default_reason = "body-time"


class ClientClosedRequest(RequestError):
    """The caller went away before the answer was ready."""

    default_reason = "client-closed"


class Overloaded(CxrError):
    """Too many requests are in work.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "overloaded"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DecoderUnavailable(CxrError):
    """No process can decode files at the moment; the service is starting or something is broken.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "decoder"
    retry_after_seconds = 5


class ReceiverUnavailable(CxrError):
    """A received instance is not kept: the queue is full, or cannot be written.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "queue-unavailable"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_seconds: int = 30
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds
