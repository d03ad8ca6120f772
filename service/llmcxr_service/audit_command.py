"""`llmcxr audit`: the audit log at a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmcxr_service.audit_log import verify
from llmcxr_service.errors import AuditError

app = typer.Typer(no_args_is_help=True, help="The log of who did what.")


@app.callback()
def _audit() -> None:
    """Commands of the audit log."""


@app.command("verify")
def verify_log(
    directory: Annotated[Path, typer.Argument(envvar="LLMCXR_AUDIT", help="Where it is.")],
) -> None:
    """Say for each replica how many events are whole, and the last one's hash; 1 if any is not."""
    try:
        verdicts = verify(directory)
    except AuditError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    for verdict in verdicts:
        state = verdict.complaint or "whole"
        typer.echo(f"{verdict.replica}: {verdict.events} events, {state}; head {verdict.head}")
    raise typer.Exit(int(any(verdict.complaint for verdict in verdicts)))
