"""What was found of each radiograph: for people, and to compare two evaluations case by case.

    cases.jsonl   one measured radiograph a line: real and written report, scores by finding
    cases.npz     the same and more as arrays

They hold texts of the data set. They belong beside it, not into a repository.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.data import DataError, Study

CASES_JSONL = "cases.jsonl"
CASES_NPZ = "cases.npz"

_DIGITS = 4


@dataclass
class Cases:
    """Radiographs and what was found.

    Attributes:
        records: of each measured radiograph, plain values by name.
        arrays: everything that has rows of numbers; each part states its own rows.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, studies: Sequence[Study]) -> Cases:
        """Nothing found yet."""
        return cls([{"id": s.id, "patient": s.patient_id} for s in studies])

    def note(self, name: str, rows: Sequence[int], values: Sequence[Any]) -> None:
        """State a value of some radiographs."""
        for row, value in zip(rows, values, strict=True):
            self.records[row][name] = value

    def note_table(
        self, name: str, rows: Sequence[int], columns: Sequence[str], table: NDArray[np.floating]
    ) -> None:
        """State a value by column of some radiographs; what is not known is left out."""
        plain = [
            {c: round(float(v), _DIGITS) for c, v in zip(columns, row, strict=True) if v == v}
            for row in table
        ]
        self.note(name, rows, plain)

    def write(self, folder: Path) -> None:
        """Write both files, atomically."""
        lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in self.records)
        text = folder / f"{CASES_JSONL}.tmp"
        text.write_text(lines, encoding="utf-8")
        text.replace(folder / CASES_JSONL)
        arrays = folder / "cases.tmp.npz"
        np.savez_compressed(arrays, **self.arrays)  # type: ignore[arg-type]
        arrays.replace(folder / CASES_NPZ)

    @classmethod
    def read(cls, folder: Path) -> Cases:
        """What `write` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        try:
            lines = (folder / CASES_JSONL).read_text(encoding="utf-8").split("\n")
            records = [json.loads(line) for line in lines if line]
            with np.load(folder / CASES_NPZ) as archive:
                return cls(records, {name: archive[name] for name in archive.files})
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{folder} holds no cases of a finished evaluation") from error


def digest_of(studies: Sequence[Study]) -> str:
    """Of which radiographs with which reports are measured, in which order."""
    said = hashlib.sha256()
    for study in studies:
        said.update(f"{study.id}\0{study.patient_id}\0{study.report.text}\0".encode())
    return said.hexdigest()
