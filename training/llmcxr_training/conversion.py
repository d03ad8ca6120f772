"""What import and export of official weights share: their error, and a directory made whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError


class ConversionError(Exception):
    """Weights cannot be converted: a file is missing, damaged or of another kind."""


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name `output` only after the block has succeeded.

    Raises:
        ConversionError: something is at `output` already, or the disk refuses.
    """
    if output.is_symlink() or (output.exists() and not _is_empty_directory(output)):
        raise ConversionError(f"{output} is there already; name another directory")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
            building = Path(scratch) / "whole"
            building.mkdir()
            yield building
            building.rename(output)
    except (OSError, SafetensorError) as error:
        # The text of an OSError holds the temporary name; its cause is what helps.
        cause = getattr(error, "strerror", None) or error
        raise ConversionError(f"{output} cannot be written: {cause}") from error


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
