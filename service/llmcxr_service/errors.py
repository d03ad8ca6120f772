"""What only the HTTP side can get wrong, as branches of the product's error tree.

CxrError
|-- RequestError
|   |-- InvalidRequest          the request does not fit its schema
|   |-- NotAcceptable           no media type that the caller accepts
|   |-- BodyTooLarge            more bytes than the limit
|   |-- ClientClosedRequest     the caller went away; nobody reads this answer
|   |-- MalformedMultipart      the body is no multipart/related
|   |-- ReceivingDisabled       no rules, so no instances are received
|   |-- UnknownJob              no job or result of this id, or none of this caller's
|   |-- UnknownWebhook          no webhook of this name is configured
|   |-- InvalidIdempotencyKey   the header Idempotency-Key cannot be used
|   |-- IdempotencyMismatch     the same key came with another request before
|   |-- IdempotencyConflict     a request with this key is in work
|   |-- UnknownDelivery         no delivery of this id, or not one that this can be done with
|   |-- NoJudge                 the checkpoint has no judge that could pick an image
|   |-- NoGuidance              the checkpoint has no tables that could guide the drawing
|   |-- UnknownSource           no archive of this name is configured
|   `-- InstanceNotFound        the archive does not have the instance
|-- Unauthenticated             no credentials, or none that are accepted
|-- Forbidden                   the caller is known and may not do this
|-- RateLimited                 the caller asked too often; try again later
|-- IssuerUnavailable           the issuer's keys cannot be had, so no token can be judged
|-- Overloaded                  too many requests in work; try again later
|-- DeadlineExceeded            the time that the caller gave is over
|-- DecoderUnavailable          no process can decode files at the moment
|-- ReceiverUnavailable         a received instance could not be kept; the sender must try again
|-- SourceError                 an archive did not give an instance
|   |-- SourceUnavailable       it cannot be reached, or has too much to do
|   |-- SourceTimeout           it did not answer in time
|   |-- SourceRefused           it does not accept who we are
|   `-- SourceMisbehaved        it answered something else than the instance
|-- BatchError                  a run over an archive cannot be planned or gone on with
|   `-- ModelAway               the language model did not come back in time
|-- RulesError, SourcesError, CallersError    a file or setting of receiving cannot be used
|-- AccessError                 settings or files of who may do what cannot be used
|-- WebhooksError, AuditError   webhooks or the audit log cannot be used; for the operator
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


class UnknownJob(RequestError):
    """There is no job or result of this id, none of this caller's, or there are no jobs at all."""

    default_reason = "unknown-job"


class UnknownWebhook(RequestError):
    """No webhook of this name is configured."""

    default_reason = "unknown-webhook"


class InvalidIdempotencyKey(RequestError):
    """The header Idempotency-Key cannot be used."""

    default_reason = "idempotency-key"


class IdempotencyMismatch(RequestError):
    """The same Idempotency-Key came with another request before."""

    default_reason = "idempotency-mismatch"


class IdempotencyConflict(RequestError):
    """A request with the same Idempotency-Key is in work.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "idempotency-conflict"
    retry_after_seconds = 1


class UnknownDelivery(RequestError):
    """There is no delivery of this id, or none that allows what was asked."""

    default_reason = "unknown-delivery"


class ReceivingDisabled(RequestError):
    """There are no rules, so no instances are received."""

    default_reason = "receiving-disabled"


class NoJudge(RequestError):
    """The best of several images is asked for, and the checkpoint has no judge to pick it."""

    default_reason = "no-judge"


class NoGuidance(RequestError):
    """Drawing is to be guided, and the checkpoint has no tables to guide it by."""

    default_reason = "no-guidance"


class UnknownSource(RequestError):
    """No archive of this name is configured."""

    default_reason = "unknown-source"


class InstanceNotFound(RequestError):
    """The archive does not have the instance."""

    default_reason = "not-found"


class Unauthenticated(CxrError):
    """The request brings no credentials, or none that are accepted.

    Attributes:
        cause: for the operator; the caller is told the reason only.
    """

    default_reason = "refused-credentials"

    def __init__(self, message: str, *, reason: str, cause: str) -> None:
        super().__init__(message, reason=reason)
        self.cause = cause


class Forbidden(CxrError):
    """The caller is known, and may not do this.

    Attributes:
        scopes: one of these would do.
    """

    default_reason = "scope"

    def __init__(self, message: str, *, scopes: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.scopes = scopes


class RateLimited(CxrError):
    """The caller asked more often than it may.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "rate"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class IssuerUnavailable(CxrError):
    """The issuer's keys are too old or were never fetched, so no token can be judged.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "issuer-unavailable"
    retry_after_seconds = 10


class Overloaded(CxrError):
    """Too many requests are in work.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "overloaded"

    def __init__(
        self, message: str, *, retry_after_seconds: int, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(CxrError):
    """The time that the caller gave was over before the answer was ready."""

    default_reason = "deadline"


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


class AccessError(CxrError):
    """Settings or files of who may do what cannot be used. For the operator."""

    default_reason = "access"


class WebhooksError(CxrError):
    """The file of webhooks cannot be used. For the operator; it names keys, never their values."""

    default_reason = "webhooks"


class AuditError(CxrError):
    """The audit log cannot be opened. For the operator."""

    default_reason = "audit"


class ListenerError(CxrError):
    """The DIMSE receiver cannot be started. For the operator."""

    default_reason = "listener"


class BatchError(CxrError):
    """A run over an archive cannot be planned, or not be gone on with; what was done is kept."""

    default_reason = "batch"


class ModelAway(BatchError):
    """The language model did not come back for so long that a run was ended."""

    default_reason = "model-away"
