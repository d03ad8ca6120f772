"""Settings -> a door, checked at start."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from urllib.parse import urlsplit

from llmcxr_service.access.certificates import load_clients
from llmcxr_service.access.door import Door
from llmcxr_service.access.issuer_keys import IssuerKeys
from llmcxr_service.access.keys import KeyRing
from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.access.rates import Rates
from llmcxr_service.access.tokens import Tokens
from llmcxr_service.errors import AccessError
from llmcxr_service.settings import Settings

log = logging.getLogger(__name__)


def check_access(settings: Settings) -> None:
    """Whether the service may start with these settings.

    Raises:
        AccessError: it would be open to the network without having been told to, or a setting or
            file cannot be used.
    """
    if settings.open and not settings.open_to_network and not is_loopback(settings.host):
        raise AccessError(
            "LLMCXR_OPEN answers everybody, and LLMCXR_HOST is not on loopback. Make keys"
            " (`llmcxr keys create`), or set LLMCXR_OPEN_TO_NETWORK as well if something else"
            " checks callers."
        )
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise AccessError("LLMCXR_TLS_CERTIFICATE and LLMCXR_TLS_KEY go together.")
    if bool(settings.tls_client_ca) != bool(settings.tls_clients):
        raise AccessError("LLMCXR_TLS_CLIENT_CA and LLMCXR_TLS_CLIENTS go together.")
    if settings.tls_clients and not settings.tls_certificate:
        raise AccessError("LLMCXR_TLS_CLIENTS needs LLMCXR_TLS_CERTIFICATE.")
    if settings.tls_clients:
        load_clients(settings.tls_clients)
    for file in (settings.tls_certificate, settings.tls_key, settings.tls_client_ca):
        if file is not None and not file.is_file():
            raise AccessError("A file of LLMCXR_TLS_* is missing.")


def open_door(settings: Settings, measures: DoorMeasures | None = None) -> Door:
    """A door by the settings; nothing is fetched yet.

    Args:
        settings: the configuration.
        measures: told of what is asked of an issuer and of a store of rates.

    Raises:
        AccessError: a setting or file cannot be used.
    """
    check_access(settings)
    if settings.open:
        return Door(keys=None, open=True)
    store = settings.rate_limit_store
    return Door(
        keys=KeyRing(settings.keys),
        tokens=_tokens(settings, measures),
        clients=load_clients(settings.tls_clients) if settings.tls_clients else None,
        rates=None
        if settings.rate_limit == "off"
        else Rates(
            settings.rate_limit,
            None if store is None else store.get_secret_value(),
            measures=measures,
        ),
    )


def warn_of_access(settings: Settings) -> list[str]:
    """Doubts, as sentences: what is allowed, and may not be meant."""
    if settings.open:
        return ["Everybody who can reach the service is answered (LLMCXR_OPEN)."]
    doubts = []
    if not (settings.oidc_issuer or settings.tls_clients or len(KeyRing(settings.keys))):
        doubts.append("Nobody can call the service: make a key with `llmcxr keys create`.")
    if not is_loopback(settings.host) and not settings.tls_certificate:
        doubts.append("Credentials come unencrypted unless a proxy in front of it speaks TLS.")
    return doubts


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address that is listened on."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _tokens(settings: Settings, measures: DoorMeasures | None) -> Tokens | None:
    issuer, audience, url = (
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_jwks_url,
    )
    if issuer is None and audience is None and url is None:
        return None
    if issuer is None or audience is None or url is None:
        raise AccessError(
            "LLMCXR_OIDC_ISSUER, LLMCXR_OIDC_AUDIENCE and LLMCXR_OIDC_JWKS_URL go together."
        )
    if not _may_be_fetched(url):
        raise AccessError("LLMCXR_OIDC_JWKS_URL must be https, or http on loopback.")
    keys = IssuerKeys(
        url,
        _trust(settings),
        cache_seconds=settings.oidc_cache_seconds,
        stale_seconds=settings.oidc_stale_seconds,
        measures=measures,
    )
    return Tokens(
        keys,
        issuer=issuer,
        audience=audience,
        algorithms=settings.oidc_algorithms.split(","),
        scope_claim=settings.oidc_scope_claim,
        leeway_seconds=settings.oidc_leeway_seconds,
    )


def _may_be_fetched(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )


def _trust(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.oidc_ca_file)
    except (OSError, ssl.SSLError):
        raise AccessError("LLMCXR_OIDC_CA_FILE cannot be used.") from None
