"""TOML configuration files: every key is known, every path is relative to the working directory.

TOML has no null; the string "none" stands for it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Config = TypeVar("Config", bound=BaseModel)


class ConfigError(Exception):
    """A configuration file cannot be used."""


def read_config(path: Path, kind: type[Config], overrides: list[str]) -> Config:
    """Read a TOML file into `kind`.

    Args:
        path: the file.
        kind: a model that forbids unknown keys.
        overrides: `key=value` with a TOML value, dots for nested keys; later ones win.

    Raises:
        ConfigError: unreadable, a misspelt key, or a value of the wrong type; says which.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        for override in overrides:
            _set(values, override)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return kind.model_validate(_nulls(values))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error


def _nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _nulls(nested) for key, nested in value.items()}
    return None if value == "none" else value


def _set(values: dict[str, object], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"an override is key=value, not {override}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *parents, last = key.strip().split(".")
    for parent in parents:
        nested = values.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"{parent} is no table")
        values = nested
    values[last] = value
