"""Why a caller is not let in: what the operator may know, and the little that callers are told."""

from __future__ import annotations

from enum import StrEnum

from llmcxr_service.errors import Unauthenticated


class Cause(StrEnum):
    """For metrics; a closed set, without anything of the caller's."""

    MISSING = "missing"
    MALFORMED = "malformed"
    KEY_UNKNOWN = "key-unknown"
    KEY_REVOKED = "key-revoked"
    KEY_EXPIRED = "key-expired"
    TOKENS_OFF = "tokens-off"
    ALGORITHM = "algorithm"
    SIGNING_KEY = "signing-key"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET = "not-yet"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIMS = "claims"
    CERTIFICATE = "certificate"


_TOLD = {
    Cause.MISSING: ("no-credentials", "This needs credentials."),
    Cause.MALFORMED: ("malformed-credentials", "The credentials are malformed."),
    Cause.KEY_EXPIRED: ("expired-credentials", "The credentials have expired."),
    Cause.EXPIRED: ("expired-credentials", "The credentials have expired."),
}
# Which part of a forged token is wrong is nobody's business but the operator's.
_ELSE = ("refused-credentials", "The credentials are not accepted.")

REASONS = frozenset({reason for reason, _ in _TOLD.values()} | {_ELSE[0]})
"""All that a caller may be told."""


def refused(cause: Cause) -> Unauthenticated:
    """The error for credentials that are missing or not accepted."""
    reason, sentence = _TOLD.get(cause, _ELSE)
    return Unauthenticated(sentence, reason=reason, cause=cause)
