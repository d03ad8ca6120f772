"""`llmcxr deliveries`: the queue at a terminal; needs its database, not the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from llmcxr_service.deliveries.place import place_of
from llmcxr_service.deliveries.work import State
from llmcxr_service.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from llmcxr_service.deliveries.ledger import Entry, Ledger

app = typer.Typer(
    no_args_is_help=True, help="What was delivered, what was not, and doing it again."
)
console = Console(soft_wrap=True)
problems = Console(stderr=True)

Id = Annotated[str, typer.Argument(help="As `list` prints it.")]


@app.command("list")
def list_deliveries(
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """Deliveries, newest first."""
    with _ledger() as ledger:
        _print(ledger.entries(state=state, limit=limit))


@app.command()
def show(delivery: Id) -> None:
    """Every attempt of one delivery, oldest first."""
    with _ledger() as ledger:
        _print(ledger.history(delivery))


@app.command()
def resend(
    delivery: Annotated[str, typer.Argument(help="As `list` prints it.")] = "",
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    target: Annotated[str, typer.Option(help="With --dead: only for this destination.")] = "",
) -> None:
    """Send now: again where it was given up, discarded or done, sooner where it waits."""
    with _ledger() as ledger:
        wanted = [delivery] if delivery else []
        if dead:
            found = ledger.entries(state=State.DEAD, limit=10_000)
            wanted += [e.work.delivery for e in found if target in ("", e.work.target)]
        for each in wanted:
            ledger.resend(each)
    console.print(f"{len(wanted)} to be sent.")


@app.command()
def discard(delivery: Id) -> None:
    """Give a delivery up for good."""
    with _ledger() as ledger:
        ledger.discard(delivery)
    console.print("Discarded.")


@contextmanager
def _ledger() -> Iterator[Ledger]:
    """The ledger; what is expected to go wrong becomes a sentence and a status."""
    from sqlalchemy.exc import SQLAlchemyError

    from llmcxr_service.deliveries.ledger import Ledger
    from llmcxr_service.errors import UnknownDelivery

    try:
        place = place_of(load_settings())
        if not place.exists:
            problems.print("There is no queue in LLMCXR_SPOOL yet.")
            raise typer.Exit(1)
        with Ledger(place.url) as ledger:
            yield ledger
    except SQLAlchemyError:
        # Its text quotes the URL.
        problems.print("The database of LLMCXR_DELIVERIES_DATABASE cannot be used.")
        raise typer.Exit(1) from None
    except (SettingsError, UnknownDelivery) as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None


def _print(entries: list[Entry]) -> None:
    """Aligned columns; a table would shorten ids where the terminal is narrow."""
    rows = [("id", "state", "attempt", "reason", "changed", "due")]
    for entry in entries:
        due = "" if entry.due is None else _time(entry.due)
        work, changed = entry.work, _time(entry.changed)
        row = (work.delivery, entry.state.value, str(work.attempt), entry.reason, changed, due)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
