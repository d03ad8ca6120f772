"""From settings to a DIMSE receiver; and a look at everything that receiving needs, at start."""

from __future__ import annotations

from llmcxr_service.audit_log import AuditLog
from llmcxr_service.errors import ListenerError, RulesError
from llmcxr_service.intake_dicom.callers import parse_callers
from llmcxr_service.intake_dicom.dimse import DimseOptions, DimseReceiver, Tls
from llmcxr_service.intake_dicom.noting import note_in
from llmcxr_service.intake_dicom.opening import read_rules, read_sources
from llmcxr_service.intake_dicom.reception import Reception
from llmcxr_service.observability import Metrics
from llmcxr_service.settings import Settings


def check_receiving(settings: Settings) -> None:
    """Read every file that receiving and pulling need, so that a mistake is told at start.

    Raises:
        CxrError: what is wrong, in a sentence for the operator.
    """
    read_rules(settings)
    read_sources(settings)
    if settings.dicom_port is not None:
        if settings.dicom_rules is None:
            raise RulesError("LLMCXR_DICOM_PORT needs LLMCXR_DICOM_RULES.")
        dimse_options(settings, settings.dicom_port)


def make_dimse_receiver(
    settings: Settings,
    port: int,
    reception: Reception,
    metrics: Metrics,
    audit: AuditLog | None,
) -> DimseReceiver:
    """The DIMSE receiver of the settings, not yet started.

    Args:
        settings: the configuration.
        port: to listen on.
        reception: takes what comes.
        metrics: where to count.
        audit: where receptions are noted; None: nowhere.

    Raises:
        CallersError: nobody is named that may send.
        ListenerError: half of the certificate files are named.
    """
    return DimseReceiver(
        dimse_options(settings, port),
        reception,
        count=lambda event: metrics.associations.labels(event).inc(),
        note=note_in(audit, metrics.audit_failures.labels("append").inc),
    )


def dimse_options(settings: Settings, port: int) -> DimseOptions:
    """How a DIMSE receiver listens; raises as `make_dimse_receiver` does."""
    certificate, key = settings.dicom_tls_certificate, settings.dicom_tls_key
    client_ca = settings.dicom_tls_client_ca
    if (certificate is None) != (key is None) or (client_ca is not None and certificate is None):
        raise ListenerError(
            "LLMCXR_DICOM_TLS_CERTIFICATE, _KEY and _CLIENT_CA: the first two go together, and"
            " the third needs them."
        )
    return DimseOptions(
        host=settings.dicom_host,
        port=port,
        ae_title=settings.dicom_ae_title,
        callers=parse_callers(settings.dicom_calling_ae_titles, settings.dicom_networks),
        tls=None if certificate is None or key is None else Tls(certificate, key, client_ca),
        max_pdu_bytes=settings.dicom_max_pdu_bytes,
        max_associations=settings.dicom_max_associations,
        seconds=settings.dicom_timeout_seconds,
    )
