"""What a run is about -> its radiographs, one after another, without holding them all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcxr_service.batch.items import BatchItem
from llmcxr_service.errors import BatchError

MANIFESTS = (".csv", ".jsonl", ".parquet")
_NOT_RADIOGRAPHS = frozenset({"DICOMDIR"})


def list_files(source: Path) -> Iterator[BatchItem]:
    """Radiographs of a folder, or of a manifest.

    Raises:
        BatchError: there is no such folder or manifest, or it cannot be read.
    """
    if source.is_dir():
        return list_folder(source)
    if source.suffix.lower() in MANIFESTS and source.is_file():
        return list_manifest(source)
    raise BatchError("The source is neither a folder nor a manifest (.csv, .jsonl, .parquet).")


def list_folder(folder: Path) -> Iterator[BatchItem]:
    """Every file below a folder, in the order of names; archives give files no extension.

    Hidden files and folders, DICOMDIRs and links are passed over.
    """
    number = 0
    for directory, folders, files in os.walk(folder.resolve()):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(directory) / name
            if name.startswith(".") or name in _NOT_RADIOGRAPHS or path.is_symlink():
                continue
            yield BatchItem(number, path=_as_text(path))
            number += 1


def list_manifest(manifest: Path) -> Iterator[BatchItem]:
    """The rows of a manifest: `path`, relative to it, and perhaps `indication`.

    Raises:
        BatchError: it cannot be read, or a row has no path.
    """
    try:
        for number, row in enumerate(_rows(manifest)):
            path, indication = row.get("path"), row.get("indication") or ""
            if not isinstance(path, str) or not path or not isinstance(indication, str):
                raise BatchError(f"Row {number + 1} of the manifest has no path.")
            whole = manifest.resolve().parent / path
            yield BatchItem(number, path=_as_text(whole), indication=indication)
    except (OSError, ValueError, csv.Error):
        raise BatchError("The manifest cannot be read.") from None


def _rows(manifest: Path) -> Iterable[Mapping[str, Any]]:
    if manifest.suffix.lower() == ".parquet":
        return _parquet_rows(manifest)
    if manifest.suffix.lower() == ".csv":
        return _csv_rows(manifest)
    return _json_rows(manifest)


def _csv_rows(manifest: Path) -> Iterator[Mapping[str, Any]]:
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _json_rows(manifest: Path) -> Iterator[Mapping[str, Any]]:
    with manifest.open(encoding="utf-8") as file:
        for line in filter(str.strip, file):
            row = json.loads(line)
            yield row if isinstance(row, dict) else {}


def _parquet_rows(manifest: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(manifest) as file:
            wanted = [name for name in ("path", "indication") if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=wanted):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise OSError from error


def _as_text(path: Path) -> str:
    """A path that JSON and Parquet can hold; a name that is no UTF-8 is kept as Python does."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
