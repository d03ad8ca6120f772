"""The operators' TOML files: one way to open them, to check them, and to say what is wrong.

Destinations, rules, archives, webhooks and callers are each such a file, with a schema of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

S = TypeVar("S", bound="Table")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""What an operator calls something; it may stand in logs, in metrics and in a URL."""


class Table(BaseModel):
    """A table of such a file: an unknown key is a mistake, not a comment."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_operator_file(
    path: Path, schema: type[S], what: str, error: Callable[[str], Exception]
) -> S:
    """A file that fits its schema.

    Args:
        path: of the file.
        schema: of the whole of it.
        what: it holds, in the plural.
        error: makes the exception; its message names places and keys, never values.

    Raises:
        Exception: from `error`; it cannot be read, is no TOML, or does not fit.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise error(f"The file of {what} cannot be read.") from None
    except UnicodeDecodeError:
        raise error(f"The file of {what} is no TOML: it is not UTF-8.") from None
    except tomllib.TOMLDecodeError as wrong:
        raise error(f"The file of {what} is no TOML. {wrong}.") from None
    try:
        return schema.model_validate(values)
    except ValidationError as wrong:
        raise error(f"Wrong {what}. {_places(wrong)}.") from None


def _places(wrong: ValidationError) -> str:
    """Where and what, in a fixed order; pydantic's own text quotes values."""
    return "; ".join(sorted(_place(each["loc"], each["msg"]) for each in wrong.errors()))


def _place(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, location)) or "file"
    return f"{where}: {message.removeprefix('Value error, ')}"
