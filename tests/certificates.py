"""A certificate authority and a server's certificate for 127.0.0.1, made on the spot."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """Files.

    Attributes:
        path: the authority's certificate, for clients to trust.
        server: the server's certificate and key.
    """

    path: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server on 127.0.0.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context


def make_certificate(directory: Path) -> Certificate:
    """Make both in a directory."""
    certificate = Certificate(directory / "ca.pem", directory / "server.pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(certificate.path))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate.server))
    return certificate
