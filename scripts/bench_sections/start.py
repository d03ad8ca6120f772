"""Section `start`: from `make demo` to its first report, and each process's peak of memory.

`cold`: with empty caches of compilation, and the checkpoint's and the environment's files put out
of the page cache (posix_fadvise; what other processes have mapped stays). `second`: the same
again. The demo starts vLLM eagerly; `compiled_cold` and `compiled_second` start it with
compilation (`LLMCXR_VLLM_EAGER=false`), whose cache the second one finds: an option that costs
more at first. Time counts from the command to the line that shows the report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench_sections.figures import Figures
from bench_sections.processes import PeakMemory
from bench_sections.stage import ROOT, Stage

SECONDS = 700
_FIRST_REPORT = "Report for"
_READY = "The service is ready after"


def run(stage: Stage) -> Figures:
    """Measure."""
    stage.close()  # the demo has a vLLM of its own
    found: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, eager in _runs(stage.quick):
            caches = Path(directory) / ("eager" if eager else "compiled")
            if not name.endswith("second"):
                _forget(stage.checkpoint.path)
            stage.console.print(f"{name} ...")
            found[name] = _demo(stage, caches, eager=eager)
    return found


def _runs(quick: bool) -> list[tuple[str, bool]]:
    eager = [("cold", True), ("second", True)]
    return eager if quick else [*eager, ("compiled_cold", False), ("compiled_second", False)]


def _demo(stage: Stage, caches: Path, *, eager: bool) -> Figures:
    # What is quick serves another checkpoint than `make demo` sets up.
    command = [sys.executable, "-m", "llmcxr_service", "demo"] if stage.quick else ["make", "demo"]
    environment = _environment(stage.checkpoint.path, caches, eager=eager)
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    marks: dict[str, float] = {}
    said: list[str] = []
    with PeakMemory(process.pid) as memory:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            for mark in (_READY, _FIRST_REPORT):
                if mark in line:
                    marks.setdefault(mark, round(time.monotonic() - started, 1))
        process.wait()
    if _FIRST_REPORT not in marks:
        raise RuntimeError("the demo gave no report:\n" + "".join(said[-30:]))
    return {
        "seconds_to_ready": marks[_READY],
        "seconds_to_first_report": marks[_FIRST_REPORT],
        "seconds_of_the_whole_demo": round(time.monotonic() - started, 1),
        "status": process.returncode,
        "peak_mib": memory.mib,
    }


def _environment(checkpoint: Path, caches: Path, *, eager: bool) -> Mapping[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
    return ours | {
        "LLMCXR_CHECKPOINT": str(checkpoint),
        "LLMCXR_VLLM_EAGER": str(eager).lower(),
        "VLLM_CACHE_ROOT": str(caches / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "PYTHONUNBUFFERED": "1",
    }


def _forget(checkpoint: Path) -> None:
    """Ask the kernel to drop these files from its page cache."""
    libraries = Path(sys.prefix) / "lib"
    for path in (*checkpoint.rglob("*"), *libraries.rglob("*.so*")):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(number)
