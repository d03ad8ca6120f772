"""`scripts/canaries.py`: 61 made-up identifiers through 2,000 requests; writes docs/canaries.json.

Status 1 where one of them came out again: in a log, /metrics, an answer, a PDU or a file that is
not meant for it. Arguments are passed on: --requests, --seed, --output.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run it with the tests' modules in reach."""
    output = ["--output", str(ROOT / "docs" / "canaries.json")]
    command = [sys.executable, "-m", "tests.hostile.canaries", *output, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
