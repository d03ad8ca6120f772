"""`llmcxr keys`: API keys at a terminal; needs their file, not the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from llmcxr_service.access.callers import Scope
from llmcxr_service.access.key_file import add_key, revoke_key, write_secret
from llmcxr_service.access.keys import Key, new_key, read_keys
from llmcxr_service.errors import AccessError
from llmcxr_service.settings import SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, help="API keys: who may call the service.")
console = Console(soft_wrap=True)
problems = Console(stderr=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; for you alone.", min=1)],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; can be given again.")],
    days: Annotated[int | None, typer.Option(min=1, max=36500, help="It expires then.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the key here, do not print it.")
    ] = None,
) -> None:
    """Make a key, and show it this once: only its hash is kept."""
    expires = None
    if days is not None:
        expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
    with _file() as path:
        text, key = new_key(name, tuple(dict.fromkeys(scope)), expires=expires)
        if output is not None:
            write_secret(output, text + "\n")
        add_key(path, key)
    if output is None:
        # Plain, so that it can be redirected.
        typer.echo(text)
    problems.print(f"Key {key.id} can be used at once. It is not shown again.", highlight=False)


@app.command("list")
def list_keys() -> None:
    """Every key: id, state, scopes, name; newest last."""
    with _file() as path:
        for key in read_keys(path).keys:
            scopes = ",".join(key.scopes)
            line = f"{key.id}  {_state(key)}  {scopes}  {key.name}"
            console.print(line, markup=False, highlight=False)


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="Its id, as `list` prints it.")]) -> None:
    """Refuse a key from now on; running gateways need no restart."""
    with _file() as path:
        revoke_key(path, key)
    problems.print("It is refused from now on.")


def _state(key: Key) -> str:
    if key.revoked is not None:
        return f"revoked {key.revoked:%Y-%m-%d}"
    if key.expires is None:
        return "valid"
    if key.expires <= datetime.now(UTC):
        return f"expired {key.expires:%Y-%m-%d}"
    return f"valid until {key.expires:%Y-%m-%d}"


@contextmanager
def _file() -> Iterator[Path]:
    try:
        yield load_settings().keys
    except SettingsError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
    except AccessError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
