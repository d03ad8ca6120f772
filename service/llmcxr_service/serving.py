"""`llmcxr serve`: the application behind uvicorn, from settings to exit status."""

from __future__ import annotations

import logging
import signal
import ssl
import sys
from types import FrameType
from typing import Any

import uvicorn

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.access.certificates import CertificateProtocol
from llmcxr_service.access.opening import check_access, warn_of_access
from llmcxr_service.app import create_app
from llmcxr_service.deliveries.destinations import load_destinations
from llmcxr_service.draining import DrainingServer
from llmcxr_service.jobs.webhooks import load_webhooks
from llmcxr_service.observability import configure_logging
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_launcher import end_with_stdin

log = logging.getLogger(__name__)


def run_service(settings: Settings, *, end_with_parent: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: the configuration.
        end_with_parent: also end when standard input closes.

    Raises:
        CheckpointError: there is no checkpoint to serve.
        CxrError: a file of destinations, rules or archives cannot be used, or the service would
            be open to the network without having been told to.
    """
    configure_logging(settings.log_level)
    if end_with_parent:
        end_with_stdin()
    check_access(settings)
    for doubt in warn_of_access(settings):
        log.warning("%s", doubt)
    # Only the manifest: said here in a sentence instead of by a traceback later on.
    name = Checkpoint.open(settings.checkpoint, verify=False).manifest.served_name
    if settings.destinations is not None:
        load_destinations(settings.destinations)
    load_webhooks(settings.webhooks)
    if settings.dicom_rules or settings.dicom_sources or settings.dicom_port is not None:
        from llmcxr_service.intake_dicom.listening import check_receiving

        check_receiving(settings)
    scheme = "https" if settings.tls_certificate else "http"
    log.info("serving %s on %s://%s:%d", name, scheme, settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        **tls_options(settings),
    )
    server = DrainingServer(config, app.state.draining, settings.drain_notice_seconds)
    _end_orderly(server)
    server.run()
    if not server.started:
        sys.exit(1)


def tls_options(settings: Settings) -> dict[str, Any]:
    """Uvicorn's options for TLS; none without a certificate."""
    if not settings.tls_certificate:
        return {}
    options: dict[str, Any] = {
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
    }
    if settings.tls_client_ca:
        # Optional: probes have none, and other callers have keys or tokens.
        options["ssl_ca_certs"] = str(settings.tls_client_ca)
        options["ssl_cert_reqs"] = ssl.CERT_OPTIONAL
        options["http"] = CertificateProtocol
    return options


def _end_orderly(server: uvicorn.Server) -> None:
    """Let SIGTERM and Ctrl-C end the service with status 0.

    uvicorn takes both while it serves, and raises them again when it has shut down, which
    would make an orderly end look like a death by signal.
    """

    def note(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
