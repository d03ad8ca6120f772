"""Callers known by certificate, over real TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from tests.fakes import FakeVllm
from tests.service.access.conftest import bearer
from tests.service.conftest import serve

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.certificates import alternative_names, load_clients
from llmcxr_service.app import create_app
from llmcxr_service.errors import AccessError
from llmcxr_service.serving import tls_options
from llmcxr_service.settings import Settings

CLIENTS = """
[[clients]]
name = "router.example"
scopes = ["report:generate"]

[[clients]]
name = "prometheus.example"
scopes = ["metrics:read"]
"""


class Hospital:
    """An authority, and a gateway that trusts it; another authority that nobody trusts."""

    def __init__(self, url: str, authority: trustme.CA) -> None:
        self.url = url
        self.authority = authority

    def client(self, *names: str, authority: trustme.CA | None = None) -> httpx.Client:
        """With a certificate of these names, or with none."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if names:
            (authority or self.authority).issue_cert(*names).configure_cert(context)
        return httpx.Client(base_url=self.url, verify=context, trust_env=False, timeout=30.0)


@pytest.fixture
def hospital(
    make_settings: Callable[..., Settings], vllm: FakeVllm, keys: Path, tmp_path: Path
) -> Iterator[Hospital]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for part in server.cert_chain_pems:
        part.write_to_path(str(tmp_path / "chain.pem"), append=True)
    (tmp_path / "clients.toml").write_text(CLIENTS)
    settings = make_settings(
        open=False,
        keys=keys,
        tls_certificate=tmp_path / "chain.pem",
        tls_key=tmp_path / "key.pem",
        tls_client_ca=tmp_path / "ca.pem",
        tls_clients=tmp_path / "clients.toml",
    )
    app = create_app(settings, transport=httpx.ASGITransport(vllm.app()))
    with serve(app, **tls_options(settings)) as url:
        yield Hospital(url, authority)


def test_who_is_known_by_certificate(hospital: Hospital) -> None:
    with hospital.client("prometheus.example") as client:
        assert client.get("/metrics").status_code == 200
        # Twice on one connection.
        assert client.get("/metrics").status_code == 200
        assert client.get("/deliveries").status_code == 403
    with hospital.client("router.example", "another.example") as client:
        assert client.get("/metrics").status_code == 403


def test_who_is_not(hospital: Hospital) -> None:
    with hospital.client() as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/metrics").json()["reason"] == "no-credentials"
    with hospital.client("stranger.example") as client:
        assert client.get("/metrics").json()["reason"] == "refused-credentials"
    with hospital.client("router.example", "prometheus.example") as client:
        assert client.get("/metrics").status_code == 401  # which of the two?
    other = trustme.CA()
    with (
        hospital.client("prometheus.example", authority=other) as client,
        pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)),
    ):
        client.get("/metrics")


def test_a_header_counts_more_than_a_certificate(
    hospital: Hospital, make_key: Callable[..., str]
) -> None:
    with hospital.client("prometheus.example") as client:
        assert client.get("/metrics", headers=bearer("x")).status_code == 401
        assert client.get("/metrics", headers=bearer(make_key(Scope.ADMIN))).status_code == 403
    with hospital.client() as client:
        assert client.get("/metrics", headers=bearer(make_key(Scope.METRICS))).status_code == 200


def test_common_names_are_no_identity() -> None:
    certificate = {"subject": ((("commonName", "router.example"),),)}
    assert alternative_names(certificate) == ()
    kinds = {"subjectAltName": (("DNS", "a"), ("email", "b"), ("URI", "c"))}
    assert alternative_names(kinds) == ("a", "c")


@pytest.mark.parametrize(
    "text",
    [
        "no toml",
        "[[clients]]\nname = 'a'\nscopes = ['everything']",
        "[[clients]]\nname = 'a'\nscopes = []",
        CLIENTS + "[[clients]]\nname = 'router.example'\nscopes = ['admin']",
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "clients.toml").write_text(text)
    with pytest.raises(AccessError):
        load_clients(tmp_path / "clients.toml")
