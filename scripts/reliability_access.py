"""Section `access`: every route that is not open, with every kind of credentials to refuse.

The matrix itself is tests/service/access/matrix.py, which also prints it kind by kind.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from tests.service.access.matrix import FORBIDDEN, GOOD, Cell, figures, run_matrix


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """None: the matrix is always whole."""


def run_access(arguments: argparse.Namespace, checkpoint: Path) -> dict[str, Any]:
    """Ask for everything; the gateway of the matrix makes its own checkpoint."""
    del arguments, checkpoint
    with tempfile.TemporaryDirectory() as folder:
        cells = asyncio.run(run_matrix(Path(folder)))
    counted = figures(cells)
    let_in = counted["asked"] - counted["refused"]
    return {
        "what": "every route that is not open, with every kind of credentials to be refused",
        **counted,
        "let_in": let_in,
        "wrong_status_or_challenge": sum(not cell.is_right for cell in cells),
        "by_kind": {
            kind: _of_kind([cell for cell in cells if cell.kind == kind])
            for kind in dict.fromkeys(cell.kind for cell in cells)
        },
        "holds": all(cell.is_right for cell in cells),
    }


def _of_kind(cells: list[Cell]) -> dict[str, Any]:
    kind = cells[0].kind
    return {
        "asked": len(cells),
        "expected": "let in" if kind in GOOD else "403" if kind in FORBIDDEN else "401",
        "as_expected": sum(cell.is_right for cell in cells),
    }
