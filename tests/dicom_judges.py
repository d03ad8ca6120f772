# ruff: noqa: T201 - the table is for people
"""dciodvfy and dsrdump as judges of our DICOM results; a command that lets them judge many.

    python -m tests.dicom_judges --count 500 --seed 0

makes that many SR and Secondary Capture objects in all languages and prints a table.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from tests import drafts

from llmcxr_service.errors import NotAcceptable
from llmcxr_service.outputs.enhanced_sr import enhanced_sr
from llmcxr_service.outputs.findings_sr import findings_sr
from llmcxr_service.outputs.page_capture import page_capture
from llmcxr_service.outputs.synthetic_capture import synthetic_capture

_BIN = Path(sys.executable).parent
_DSRDUMP_ALLOWS = (
    "I: converting all element values",
    "W: The VR checker does not support this Specific Character Set: ISO_IR 192",
)
RENDERERS = {
    "enhanced-sr": enhanced_sr,
    "comprehensive-3d-sr": findings_sr,
    "secondary-capture": page_capture,
}


def missing_programs() -> list[str]:
    """Programs that are not installed."""
    return [name for name in ("dciodvfy", "dsrdump") if _program(name) is None]


def judge(data: bytes, *, is_report: bool) -> list[str]:
    """What the programs have against a DICOM file; dsrdump is asked about reports only."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        done = _run("dciodvfy", "-new", file.name)
        complaints = [] if done.returncode == 0 else [f"dciodvfy: {done.stderr}"]
        if is_report:
            done = _run("dsrdump", "-v", "+U8", file.name)
            lines = [ln for ln in done.stderr.splitlines() if not ln.startswith(_DSRDUMP_ALLOWS)]
            if done.returncode or lines:
                complaints.append(f"dsrdump {done.returncode}: {lines}")
    return complaints


def made(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(kind, language, file): each draft as one of the kinds in turn, or a synthetic image."""
    kinds = cycle([*RENDERERS, *RENDERERS, *RENDERERS, "synthetic"])
    for number, (draft, kind) in enumerate(
        zip(drafts.varied_drafts(count, seed), kinds, strict=False)
    ):
        if kind == "synthetic":
            yield kind, "-", synthetic_capture(drafts.synthetic(seed=number))
            continue
        try:
            yield kind, draft.language, RENDERERS[kind](draft)
        except NotAcceptable:  # no font for this script on this machine
            yield f"{kind}, no font", draft.language, b""


def main() -> None:
    """Judge many, print a table, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if missing_programs():
        sys.exit(f"not installed: {', '.join(missing_programs())}")

    def ask(one: tuple[str, str, bytes]) -> tuple[str, str, list[str]]:
        kind, language, data = one
        return kind, language, judge(data, is_report=kind.endswith("sr")) if data else ["no font"]

    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(ask, made(options.count, options.seed)))
    good = Counter((kind, language) for kind, language, bad in verdicts if not bad)
    everything = Counter((kind, language) for kind, language, _ in verdicts)
    languages = sorted({language for _, language in everything})
    print(f"{'':22}" + "".join(f"{language:>8}" for language in languages) + f"{'all':>10}")
    for kind in sorted({kind for kind, _ in everything}):
        cells = [f"{good[kind, lg]}/{everything[kind, lg]}" for lg in languages]
        total = f"{sum(v for (k, _), v in good.items() if k == kind)}/"
        total += f"{sum(v for (k, _), v in everything.items() if k == kind)}"
        row = "".join(f"{cell if cell != '0/0' else '':>8}" for cell in cells)
        print(f"{kind:22}{row}{total:>10}")
    print(f"clean: {good.total()} of {len(verdicts)}, seed {options.seed}")
    for kind, language, bad in verdicts:
        if bad:
            print(kind, language, *bad)
    sys.exit(good.total() != len(verdicts))


def _program(name: str) -> str | None:
    beside = _BIN / name
    return str(beside) if beside.exists() else shutil.which(name)


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = _program(name)
    assert program is not None
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, errors="replace", timeout=60
    )


if __name__ == "__main__":
    main()
