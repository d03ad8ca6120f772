"""What the gateway does under faults, load, attack and death, measured; figures by name.

    python scripts/reliability.py contract
    python scripts/reliability.py faults --repeats 100
    python scripts/reliability.py load --rate 40 --seconds 600
    python scripts/reliability.py kills --kills 100 --database PostgreSQL
    python scripts/reliability.py all --short
    python scripts/reliability.py table

Each section writes its own part of docs/reliability.json and leaves the others; `kills` and
`aborts` add to what is there. Everything runs here, on loopback. docs/reliability.md says how
each figure is made, and its table is written anew with every run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from reliability_aborts import add_abort_options, run_aborts  # noqa: E402
from reliability_access import add_access_options, run_access  # noqa: E402
from reliability_contract import add_contract_options, run_contract  # noqa: E402
from reliability_faults import add_fault_options, run_faults  # noqa: E402
from reliability_kills import POSTGRESQL, SQLITE, add_kill_options, run_kills  # noqa: E402
from reliability_load import add_load_options, run_load  # noqa: E402
from reliability_runs import UsedSeed, machine  # noqa: E402
from reliability_table import on_screen, write_into  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from tests.checkpoints import build_checkpoint  # noqa: E402
from tests.postgresql import NoPostgresql  # noqa: E402

FIGURES = ROOT / "docs" / "reliability.json"
DOCUMENT = FIGURES.with_suffix(".md")
SHORT_FIGURES = ROOT / "runs" / "reliability" / "short.json"
Run = Callable[[argparse.Namespace, Path], dict[str, Any]]
SECTIONS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Run]] = {
    "contract": (add_contract_options, run_contract),
    "access": (add_access_options, run_access),
    "faults": (add_fault_options, run_faults),
    "load": (add_load_options, run_load),
    "kills": (add_kill_options, run_kills),
    "aborts": (add_abort_options, run_aborts),
}
EVERYTHING = (
    "contract",
    "access",
    "faults",
    "load",
    f"kills --database {SQLITE}",
    f"kills --database {POSTGRESQL}",
    "aborts",
)
# What takes a real vLLM is left to `make test`, which has one running.
SHORT = (
    "contract --examples 8 --phases fuzzing",
    "access",
    "faults --repeats 6 --kinds refused,closed-in-body,hanging,late,status-500,status-429,"
    "bad-json,too-few-tokens,out-of-range-token,client-gone,slow-client,deadline,one-of-two-gone",
    "load --rate 5 --seconds 3 --overload-seconds 3",
    "kills --kills 3",
)


def main() -> int:
    """Run a section, or all; status 1 where something that must hold does not."""
    arguments = _parser().parse_args()
    if arguments.section == "table":
        figures = _read(arguments.output)
        Console().print(on_screen(figures))
        if arguments.output == FIGURES:
            write_into(DOCUMENT, figures)
        return 0
    if arguments.section == "all":
        short = arguments.short
        # Figures of a short run stand for nothing: they are kept apart.
        return _all(SHORT_FIGURES if short else FIGURES, SHORT if short else EVERYTHING)
    try:
        return _one(arguments)
    except (UsedSeed, NoPostgresql) as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="section", required=True)
    for name, (add_options, _) in SECTIONS.items():
        add_options(commands.add_parser(name))
    commands.add_parser("table", help="print what is there, and write it into the document")
    everything = commands.add_parser("all", help="run all sections, and print the table")
    everything.add_argument("--short", action="store_true", help="a minute or two instead of hours")
    for name in (*SECTIONS, "table"):
        commands.choices[name].add_argument("--output", type=Path, default=FIGURES)
    return parser


def _all(output: Path, commands: tuple[str, ...]) -> int:
    failed = 0
    output.parent.mkdir(parents=True, exist_ok=True)
    if output == SHORT_FIGURES:
        output.unlink(missing_ok=True)
    for command in commands:
        arguments = _parser().parse_args([*command.split(), "--output", str(output)])
        try:
            failed |= _one(arguments)
        except NoPostgresql as error:
            print(f"{command}: left out. {error}", file=sys.stderr)
    Console().print(on_screen(_read(output)))
    return failed


def _one(arguments: argparse.Namespace) -> int:
    before = machine()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = build_checkpoint(Path(directory) / "tiny")
        result = SECTIONS[arguments.section][1](arguments, checkpoint)
    if "runs" not in result:  # each run has these of its own
        result = {"options": _options(arguments), "machine": before, **result}
    figures = {**_read(arguments.output), arguments.section: result}
    arguments.output.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    if arguments.output == FIGURES:
        write_into(DOCUMENT, figures)
    _print(arguments.section, result)
    return int(not result["holds"])


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {n: v for n, v in vars(arguments).items() if n not in ("section", "output")}


def _read(output: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    return figures


def _print(section: str, result: dict[str, Any]) -> None:
    table = Table("Figure", "Value", title=section)
    for name, value in result.items():
        if not isinstance(value, dict | list):
            table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
