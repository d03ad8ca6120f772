"""Metrics of what runs out in the host: disks and certificates. Looked at in a thread.

Directories and certificates are named by what they are for, never by their paths.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge

from llmcxr_service.settings import Settings

SHOW_SECONDS = 30.0


class HostMeasures:
    """Shows free space and dates.

    Args:
        registry: of the application.
        places: directories by their use; one that does not exist yet is left out.
        certificates: PEM files by their use; one that cannot be read is left out.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        places: Mapping[str, Path],
        certificates: Mapping[str, Path],
    ) -> None:
        self._places, self._certificates = places, certificates
        self._free = Gauge(
            "llmcxr_disk_free_bytes",
            "Free space where a directory is.",
            ["place"],
            registry=registry,
        )
        self._size = Gauge(
            "llmcxr_disk_size_bytes",
            "Size of the file system where a directory is.",
            ["place"],
            registry=registry,
        )
        self._expiry = Gauge(
            "llmcxr_certificate_expiry_timestamp_seconds",
            "When the first certificate of a file ends, Unix time.",
            ["certificate"],
            registry=registry,
        )

    def show(self) -> None:
        """As it is now. Blocking."""
        for name, path in self._places.items():
            try:
                usage = shutil.disk_usage(path)
            except OSError:
                continue
            self._free.labels(name).set(usage.free)
            self._size.labels(name).set(usage.total)
        for name, path in self._certificates.items():
            try:
                found = x509.load_pem_x509_certificates(path.read_bytes())
            except (OSError, ValueError):
                continue
            ends = min(certificate.not_valid_after_utc for certificate in found)
            self._expiry.labels(name).set(ends.timestamp())


@asynccontextmanager
async def show_host(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Look now, and then twice a minute until the end."""
    measures = HostMeasures(registry, _places(settings), _certificates(settings))
    await asyncio.to_thread(measures.show)
    task = asyncio.create_task(_show_forever(measures))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _show_forever(measures: HostMeasures) -> None:
    while True:
        await asyncio.sleep(SHOW_SECONDS)
        await asyncio.to_thread(measures.show)


def _places(settings: Settings) -> dict[str, Path]:
    uses_spool = settings.destinations or settings.jobs or settings.idempotency_hours > 0
    places = {"spool": settings.spool if uses_spool else None, "audit": settings.audit}
    return {name: path for name, path in places.items() if path is not None}


def _certificates(settings: Settings) -> dict[str, Path]:
    files = {
        "http": settings.tls_certificate,
        "http-callers": settings.tls_client_ca,
        "dicom": settings.dicom_tls_certificate,
        "dicom-senders": settings.dicom_tls_client_ca,
        "issuer": settings.oidc_ca_file,
    }
    return {name: path for name, path in files.items() if path is not None}
