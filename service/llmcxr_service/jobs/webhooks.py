"""Who may be told of a job's end: named webhooks from a TOML file, and the signed call.

Callers name a webhook and never give a URL, so nobody can make the service call elsewhere.
Signatures are those of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over
id, timestamp and body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from pathlib import Path

import httpx
from pydantic import AnyHttpUrl, Field

from llmcxr_service.errors import WebhooksError
from llmcxr_service.operator_file import Name, Table, read_operator_file

_SHORTEST_SECRET = 24


class Webhook(Table):
    """One receiver.

    Attributes:
        name: what callers say.
        url: where it listens; https, unless it is on this host.
        secret_file: with the key of signatures, read at every call; 24 bytes or more.
        timeout_seconds: of one call.
        ca_file: certificates to trust; the system's where absent.
    """

    name: Name
    url: AnyHttpUrl
    secret_file: Path
    timeout_seconds: float = Field(default=10.0, gt=0, le=60)
    ca_file: Path | None = None

    def secret(self) -> bytes:
        """The key as it is in its file now.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is too short to be a secret.
        """
        secret = self.secret_file.read_bytes().strip()
        if len(secret) < _SHORTEST_SECRET:
            raise ValueError("a secret is too short")
        return secret


class _File(Table):
    webhooks: tuple[Webhook, ...] = ()


def load_webhooks(path: Path | None) -> dict[str, Webhook]:
    """Read and check the file; webhooks by name.

    Raises:
        WebhooksError: something in it cannot be used.
    """
    if path is None:
        return {}
    file = read_operator_file(path, _File, "webhooks", WebhooksError)
    webhooks = {webhook.name: webhook for webhook in file.webhooks}
    if len(webhooks) != len(file.webhooks):
        raise WebhooksError("Two webhooks have the same name.")
    for webhook in file.webhooks:
        _check(webhook)
    return webhooks


def _check(webhook: Webhook) -> None:
    if webhook.url.scheme != "https" and webhook.url.host not in ("127.0.0.1", "::1", "localhost"):
        raise WebhooksError(f"Webhook {webhook.name}: its url must be https.")
    try:
        webhook.secret()
    except (OSError, ValueError):
        raise WebhooksError(f"Webhook {webhook.name}: its secret cannot be used.") from None


def sign(secret: bytes, event: str, timestamp: int, body: bytes) -> str:
    """The `Webhook-Signature` of a call."""
    signed = f"{event}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def call(webhook: Webhook, event: str, body: bytes) -> bool:
    """Tell a receiver, once; whether it took it. Blocking.

    Args:
        webhook: whom.
        event: id; the same at every attempt, so that a receiver can tell.
        body: JSON.
    """
    timestamp = int(time.time())
    try:
        signature = sign(webhook.secret(), event, timestamp, body)
        with httpx.Client(
            timeout=webhook.timeout_seconds,
            verify=_trust(webhook),
            follow_redirects=False,
            trust_env=False,
        ) as client:
            headers = {
                "Content-Type": "application/json",
                "Webhook-Id": event,
                "Webhook-Timestamp": str(timestamp),
                "Webhook-Signature": signature,
            }
            # Its answer's body is not read: it may be endless.
            with client.stream("POST", str(webhook.url), content=body, headers=headers) as answer:
                return answer.is_success
    except (OSError, ValueError, httpx.HTTPError):
        return False


def _trust(webhook: Webhook) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=webhook.ca_file)
