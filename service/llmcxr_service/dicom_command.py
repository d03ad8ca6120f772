"""`llmcxr dicom-listen` and `llmcxr dicom-check`: receiving at a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from llmcxr_models.errors import CxrError
from llmcxr_service.arenas import keep_few_arenas
from llmcxr_service.deliveries.outcome import DestinationsError
from llmcxr_service.receiving import Origin
from llmcxr_service.settings import Settings, SettingsError, load_settings

DEFAULT_PORT = 11112

console = Console(soft_wrap=True)
problems = Console(stderr=True)


def dicom_listen(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = DEFAULT_PORT,
) -> None:
    """Receive by DICOM C-STORE in a process of its own; the gateway works on what comes."""
    settings = _settings()
    try:
        from llmcxr_service.dicom_listener import run_listener

        keep_few_arenas()
        run_listener(settings, port)
    except (CxrError, DestinationsError) as error:
        _fail(error)


def dicom_check(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A DICOM file.")
    ] = None,
    calling_ae: Annotated[str, typer.Option(help="The AE title that would send it.")] = "",
    origin: Annotated[Origin, typer.Option(help="How it would come.")] = Origin.DIMSE,
) -> None:
    """Check the rules, and say what they would do with a file. Sends and keeps nothing."""
    settings = _settings()
    try:
        from llmcxr_service.intake_dicom.forecast import forecast
        from llmcxr_service.intake_dicom.listening import check_receiving

        check_receiving(settings)
        console.print("The rules can be used.")
        if file is not None:
            for line in forecast(settings, file.read_bytes(), origin, calling_ae):
                console.print(line, markup=False, highlight=False)
    except (CxrError, DestinationsError) as error:
        _fail(error)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None


def _fail(error: Exception) -> None:
    problems.print(str(error), markup=False, highlight=False)
    raise typer.Exit(1) from None
