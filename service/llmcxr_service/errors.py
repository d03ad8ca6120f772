"""What only the HTTP side can get wrong, as branches of the product's error tree.

CxrError
|-- RequestError
|   |-- InvalidRequest          the request does not fit its schema
|   |-- NotAcceptable           no media type that the caller accepts
|   |-- BodyTooLarge            more bytes than the limit
|   |-- ClientClosedRequest     the caller went away; nobody reads this answer
|   |-- MalformedMultipart      the body is no multipart/related
|   |-- ReceivingDisabled       no rules, so no instances are received
|   |-- UnknownDelivery         no delivery of this id, or not one that this can be done with
|   |-- UnknownSource           no archive of this name is configured
|   `-- InstanceNotFound        the archive does not have the instance
|-- Overloaded                  too many requests in work; try again later
|-- DecoderUnavailable          no process can decode files at the moment
|-- ReceiverUnavailable         a received instance could not be kept; the sender must try again
|-- SourceError                 an archive did not give an instance
|   |-- SourceUnavailable       it cannot be reached, or has too much to do
|   |-- SourceTimeout           it did not answer in time
|   |-- SourceRefused           it does not accept who we are
|   `-- SourceMisbehaved        it answered something else than the instance
|-- RulesError, SourcesError, CallersError    a file or setting of receiving cannot be used
`-- ListenerError               the DIMSE receiver cannot be started
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


class MalformedMultipart(RequestError):
    """A body that is no well-formed multipart/related."""

    default_reason = "multipart"


class UnknownDelivery(RequestError):
    """There is no delivery of this id, or none that allows what was asked."""

    default_reason = "unknown-delivery"


class ReceivingDisabled(RequestError):
    """There are no rules, so no instances are received."""

    default_reason = "receiving-disabled"


class UnknownSource(RequestError):
    """No archive of this name is configured."""

    default_reason = "unknown-source"


class InstanceNotFound(RequestError):
    """The archive does not have the instance."""

    default_reason = "not-found"


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


class SourceError(CxrError):
    """An archive did not give an instance that a caller asked for."""

    default_reason = "source"


class SourceUnavailable(SourceError):
    """The archive cannot be reached, or has too much to do.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "source-unavailable"
    retry_after_seconds = 10


class SourceTimeout(SourceError):
    """The archive did not answer in time."""

    default_reason = "source-timeout"


class SourceRefused(SourceError):
    """The archive does not accept who we are."""

    default_reason = "source-refused"


class SourceMisbehaved(SourceError):
    """The archive answered something else than the instance."""

    default_reason = "source-misbehaved"


class CallersError(CxrError):
    """The settings of who may send cannot be used. For the operator."""

    default_reason = "callers"


class RulesError(CxrError):
    """The file of rules cannot be used. For the operator; it names keys, never their values."""

    default_reason = "rules"


class SourcesError(CxrError):
    """The file of archives cannot be used. For the operator; it names keys, never their values."""

    default_reason = "sources"


class ListenerError(CxrError):
    """The DIMSE receiver cannot be started. For the operator."""

    default_reason = "listener"
