"""JSON web tokens of one OpenID Connect issuer (RFC 7519, RFC 8725): who is it, what may it do?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from llmcxr_service.access.callers import Caller, known_scopes
from llmcxr_service.access.issuer_keys import IssuerKeys, Jwk
from llmcxr_service.access.refusals import Cause, refused

_LONGEST = 16 * 1024
_LEAST_RSA_BITS = 2048
_REQUIRED = ("exp", "iat", "iss", "aud", "sub")

# The most special first: most of them are subclasses of the last.
_CAUSES: tuple[tuple[type[jwt.PyJWTError], Cause], ...] = (
    (jwt.InvalidSignatureError, Cause.SIGNATURE),
    (jwt.InvalidAlgorithmError, Cause.ALGORITHM),
    (jwt.ExpiredSignatureError, Cause.EXPIRED),
    (jwt.ImmatureSignatureError, Cause.NOT_YET),
    (jwt.InvalidAudienceError, Cause.AUDIENCE),
    (jwt.InvalidIssuerError, Cause.ISSUER),
    (jwt.MissingRequiredClaimError, Cause.CLAIMS),
    (jwt.InvalidKeyError, Cause.SIGNING_KEY),
    (jwt.PyJWKError, Cause.SIGNING_KEY),
)


class Tokens:
    """Recognises tokens.

    Args:
        keys: the issuer's.
        issuer: its name, exactly as tokens give it.
        audience: our name at the issuer.
        algorithms: that are accepted; a token chooses among them, and its key must be of that kind.
        scope_claim: where scopes are.
        leeway_seconds: by how much clocks may differ.
    """

    def __init__(
        self,
        keys: IssuerKeys,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        scope_claim: str,
        leeway_seconds: float,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = tuple(algorithms)
        self._scope_claim = scope_claim
        self._leeway_seconds = leeway_seconds

    async def close(self) -> None:
        """End the connection to the issuer."""
        await self._keys.close()

    async def recognise(self, token: str) -> Caller:
        """Whose token it is.

        Raises:
            Unauthenticated: it is not accepted.
            IssuerUnavailable: it cannot be checked.
        """
        # 1. The header only chooses, among what we accept, how the token is checked.
        algorithm, key_id = self._read_header(token)
        key = await self._keys.find(key_id)
        if key is None:
            raise refused(Cause.SIGNING_KEY)
        # 2. Signature first, then the claims.
        try:
            claims = jwt.decode(
                token,
                _public_key(key, algorithm),
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_seconds,
                options={"require": list(_REQUIRED)},
            )
        except jwt.PyJWTError as error:
            raise refused(_cause(error)) from None
        except (KeyError, TypeError, ValueError, OverflowError):  # claims of unforeseen kinds
            raise refused(Cause.CLAIMS) from None
        return self._caller(claims)

    def _read_header(self, token: str) -> tuple[str, str]:
        if len(token) > _LONGEST:
            raise refused(Cause.MALFORMED)
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise refused(Cause.MALFORMED) from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise refused(Cause.ALGORITHM)
        if not isinstance(key_id, str) or not key_id:
            raise refused(Cause.SIGNING_KEY)
        # Extensions that must be understood (RFC 7515, 4.1.11): we understand none.
        if "crit" in header:
            raise refused(Cause.ALGORITHM)
        return algorithm, key_id

    def _caller(self, claims: dict[str, Any]) -> Caller:
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject:
            raise refused(Cause.CLAIMS)
        # The subject may be a person's name, so it goes no further.
        digest = hashlib.sha256(f"{self._issuer}\n{subject}".encode()).hexdigest()
        return Caller(f"token:{digest[:16]}", known_scopes(claims.get(self._scope_claim)))


def _public_key(key: Jwk, algorithm: str) -> jwt.PyJWK:
    # A key that names its algorithm is for no other (RFC 8725, 3.1).
    if key.get("alg", algorithm) != algorithm:
        raise refused(Cause.SIGNING_KEY)
    made = jwt.PyJWK(dict(key), algorithm)
    if isinstance(made.key, RSAPublicKey) and made.key.key_size < _LEAST_RSA_BITS:
        raise refused(Cause.SIGNING_KEY)
    return made


def _cause(error: jwt.PyJWTError) -> Cause:
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), Cause.MALFORMED)
