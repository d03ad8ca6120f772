"""`llmcxr serve`: the application behind uvicorn, from settings to exit status."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

import uvicorn

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.deliveries.destinations import load_destinations
from llmcxr_service.observability import configure_logging
from llmcxr_service.settings import Settings
from llmcxr_service.vllm_launcher import end_with_stdin

GRACEFUL_SECONDS = 20
"""How long requests in work may go on after SIGTERM; then they are cancelled."""

log = logging.getLogger(__name__)


def run_service(settings: Settings, *, end_with_parent: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: the configuration.
        end_with_parent: also end when standard input closes.

    Raises:
        CheckpointError: there is no checkpoint to serve.
        CxrError: a file of destinations, rules or archives cannot be used.
    """
    configure_logging(settings.log_level)
    if end_with_parent:
        end_with_stdin()
    # Only the manifest: said here in a sentence instead of by a traceback later on.
    name = Checkpoint.open(settings.checkpoint, verify=False).manifest.served_name
    if settings.destinations is not None:
        load_destinations(settings.destinations)
    if settings.dicom_rules or settings.dicom_sources or settings.dicom_port is not None:
        from llmcxr_service.intake_dicom.listening import check_receiving

        check_receiving(settings)
    log.info("serving %s on http://%s:%d", name, settings.host, settings.port)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = uvicorn.Server(config)
    _end_orderly(server)
    server.run()
    if not server.started:
        sys.exit(1)


def _end_orderly(server: uvicorn.Server) -> None:
    """Let SIGTERM and Ctrl-C end the service with status 0.

    uvicorn takes both while it serves, and raises them again when it has shut down, which
    would make an orderly end look like a death by signal.
    """

    def note(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
