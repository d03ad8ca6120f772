"""`make bench`: how fast it is on this machine; each figure a ratio measured in one run.

    python scripts/bench.py                          every section, about an hour on two cores
    python scripts/bench.py vqgan roofline           these only; the others' figures stay
    python scripts/bench.py --missing                those that the file does not have yet
    python scripts/bench.py --quick                  all on tiny random weights, into runs/bench/
    python scripts/bench.py --page                   nothing is measured; page and plots again

Each section replaces its own part of docs/benchmarks/latest.json as soon as it is measured, so a
run that was broken off goes on with `--missing`. docs/benchmarks/README.md and its plots are
written from that file. Run it where nothing else computes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from bench_sections import store  # noqa: E402
from bench_sections.page import on_screen, write_page  # noqa: E402
from bench_sections.stage import Stage  # noqa: E402
from rich.console import Console  # noqa: E402

LATEST = ROOT / "docs" / "benchmarks" / "latest.json"
DEMO = ROOT / "checkpoints" / "demo"
QUICK = ROOT / "runs" / "bench" / "quick.json"
SECTIONS = ("decode", "vqgan", "start", "throughput", "overhead", "cost", "roofline", "options")
"""In the order in which they run: the first three want the machine without a vLLM beside them."""


@dataclass(frozen=True)
class Section:
    """One file of bench_sections.

    Attributes:
        name: of the file.
        run: measures.
        seconds: that it takes on two quiet cores, about.
    """

    name: str
    run: Callable[[Stage], dict[str, Any]]
    seconds: int

    @classmethod
    def load(cls, name: str) -> Section:
        """By its name; its libraries are loaded now."""
        module = import_module(f"bench_sections.{name}")
        return cls(name, module.run, module.SECONDS)


def main() -> int:
    """Run what is asked for; status 1 where a section failed."""
    asked = _arguments()
    console = Console()
    target: Path = asked.output or (QUICK if asked.quick else LATEST)
    failed = 0
    if not asked.page:
        names = asked.sections or SECTIONS
        if asked.missing:
            names = [name for name in names if name not in store.read(target)]
        failed = _run(asked, target, names, console)
    sections = store.read(target)
    console.print(on_screen(sections))
    if target == LATEST:
        write_page(LATEST.parent / "README.md", sections)
    return int(bool(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--checkpoint", type=Path, help="default: the demo's")
    parser.add_argument("--eager", action="store_true", help="vLLM without compilation")
    parser.add_argument("--vllm-url", help="of one that runs already; its key in VLLM_API_KEY")
    parser.add_argument("--missing", action="store_true", help="only what the file does not have")
    parser.add_argument("--quick", action="store_true", help="show that all of it runs")
    parser.add_argument("--page", action="store_true", help="only write page and plots")
    parser.add_argument("--output", type=Path, help="another file for the figures")
    asked = parser.parse_args()
    unknown = [name for name in asked.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return asked


def _run(asked: argparse.Namespace, target: Path, names: Sequence[str], console: Console) -> int:
    folder = ROOT / "runs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    with ExitStack() as stack:
        stage = Stage(
            _checkpoint(asked, folder),
            folder,
            quick=asked.quick,
            eager=asked.eager or asked.quick,
            console=console,
            vllm_url=asked.vllm_url,
        )
        stack.callback(stage.close)
        for name in names:
            section = Section.load(name)
            console.rule(f"{name} (about {section.seconds / 60:.0f} minutes)")
            conditions, started = store.conditions(), time.monotonic()
            try:
                found = section.run(stage)
            except Exception:
                # The others are measured all the same; what is there of this one stays.
                traceback.print_exc()
                failed += 1
                continue
            conditions["took_seconds"] = round(time.monotonic() - started, 1)
            conditions["quick"] = asked.quick
            conditions["vllm"] = (
                "as found" if asked.vllm_url else "eager" if stage.eager else "compiled"
            )
            store.replace(target, name, {"conditions": conditions, **found})
    return failed


def _checkpoint(asked: argparse.Namespace, folder: Path) -> Path:
    if asked.checkpoint or not asked.quick:
        return Path(asked.checkpoint or DEMO)
    path = folder / "tiny"
    if not path.exists():
        from bench_sections.tiny import tiny_checkpoint

        tiny_checkpoint(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
