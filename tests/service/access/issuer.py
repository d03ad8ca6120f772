"""An OpenID Connect issuer of our own: keys, the address where they are, tokens good and bad."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ISSUER = "https://issuer.example"
AUDIENCE = "llmcxr"
KEY_ID = "first"
EVERY = "report:generate image:generate metrics:read admin"


@dataclass
class Issuer:
    """An ASGI application that gives a JWK set.

    Attributes:
        keys: private keys by id; what is removed is no longer given.
        fetched: how often the keys were asked for.
        answer: instead of the keys.
    """

    keys: dict[str, Any] = field(default_factory=lambda: {KEY_ID: rsa_key()})
    fetched: int = 0
    answer: Response | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.fetched += 1
        assert Request(scope).url.path == "/keys"
        body = json.dumps({"keys": [public(k, name) for name, k in self.keys.items()]})
        await (self.answer or Response(body, media_type="application/json"))(scope, receive, send)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Of a good token; None leaves one out."""
        now = int(time.time())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "SMITH^JOHN",
            "iat": now,
            "exp": now + 300,
            "scope": EVERY,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, *, kid: str | None = KEY_ID, key: Any = None, **changes: Any) -> str:
        """A token, good but for the changes of its claims."""
        key = key or self.keys[KEY_ID]
        algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changes), key, algorithm, headers)

    def unsigned(self) -> str:
        """With `alg: none`."""
        return ".".join((part({"alg": "none", "kid": KEY_ID}), part(self.claims()), ""))

    def confused(self) -> str:
        """HMAC with the public key, which is no secret, as its secret."""
        pem = self.keys[KEY_ID].public_key()
        secret = pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signed = f"{part({'alg': 'HS256', 'kid': KEY_ID})}.{part(self.claims())}"
        return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: Any, name: str) -> dict[str, Any]:
    """As a JWK set gives it."""
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}


def part(value: dict[str, Any]) -> str:
    return encode(json.dumps(value).encode())


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def settings_for(url: str) -> dict[str, Any]:
    """Settings of a gateway that trusts it."""
    return {
        "open": False,
        "oidc_issuer": ISSUER,
        "oidc_audience": AUDIENCE,
        "oidc_jwks_url": f"{url}/keys",
    }
