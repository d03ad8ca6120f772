"""`scripts/hostile.py`: 10,000 hostile requests by every door; tables and docs/hostile.json.

The generator and the attack are in tests/hostile; the tests run a few hundred of them. Arguments
are passed on: --count, --doors, --seed, --concurrency, --output.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run it with the tests' modules in reach."""
    output = ["--output", str(ROOT / "docs" / "hostile.json")]
    command = [sys.executable, "-m", "tests.hostile", *output, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
