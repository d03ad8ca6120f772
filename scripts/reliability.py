"""What the gateway does under faults and load, measured; figures by name with what was run.

    python scripts/reliability.py faults --repeats 100
    python scripts/reliability.py load --rate 40 --seconds 600

Each section replaces its own part of docs/reliability.json and leaves the others. Everything
runs here, on loopback: a tiny checkpoint, a scripted vLLM, the gateway on a real port.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from reliability_faults import add_fault_options, run_faults  # noqa: E402
from reliability_load import add_load_options, run_load  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from tests.checkpoints import build_checkpoint  # noqa: E402

Run = Callable[[argparse.Namespace, Path], dict[str, Any]]
SECTIONS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Run]] = {
    "faults": (add_fault_options, run_faults),
    "load": (add_load_options, run_load),
}


def main() -> int:
    """Run one section; status 1 where something that must hold does not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="section", required=True)
    for name, (add_options, _) in SECTIONS.items():
        command = commands.add_parser(name)
        command.add_argument("--output", type=Path, default=ROOT / "docs" / "reliability.json")
        add_options(command)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = build_checkpoint(Path(directory) / "tiny")
        result = SECTIONS[arguments.section][1](arguments, checkpoint)
    result = {"command": " ".join(sys.argv[1:]), "machine": _machine(), **result}
    _write(arguments.output, arguments.section, result)
    _print(arguments.section, result)
    return int(not result["holds"])


def _write(output: Path, section: str, result: dict[str, Any]) -> None:
    known = json.loads(output.read_text()) if output.exists() else {}
    known[section] = result
    output.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def _machine() -> dict[str, Any]:
    # What else ran here decides what times mean.
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "load_average_before": round(os.getloadavg()[1], 1),
    }


def _print(section: str, result: dict[str, Any]) -> None:
    table = Table("Figure", "Value", title=section)
    for name, value in result.items():
        if not isinstance(value, dict):
            table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
