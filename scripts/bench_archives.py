"""How fast `llmcxr batch` goes through radiographs, with one worker and with two.

    python scripts/bench_archives.py --radiographs 48

The shipped samples, each moved a little so that no two are alike, through the demo checkpoint on
a real vLLM of its own. The runs alternate; a rate is radiographs by the seconds from the first
shard on, so the start of vLLM and Ray is not in it. Ray listens on every address, so all of it
runs in a network namespace without any interface but loopback (`unshare -n`, needs root).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "LLMCXR_BENCH_INSIDE"
ARCHIVE = 10_000_000
LARGEST_SHIFT = 24


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "demo")
    parser.add_argument("--radiographs", type=int, default=48, help="of each run")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "docs" / "benchmarks" / "archives.json"
    )
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        _isolate()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "in"
        _draw(folder, arguments.radiographs, arguments.seed)
        runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
        for repeat in range(arguments.repeats):
            for workers, results in runs.items():
                run = Path(directory) / f"run-{workers}-{repeat}"
                results.append(_run(arguments.checkpoint, folder, run, workers))
    result = _result(arguments, runs)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _isolate() -> None:
    """Begin again where only loopback is."""
    os.environ[INSIDE] = "yes"
    script = 'ip link set lo up && exec "$@"'
    command = [sys.executable, *sys.argv]
    os.execvp("unshare", ["unshare", "-n", "sh", "-c", script, "sh", *command])


def _draw(folder: Path, count: int, seed: int) -> None:
    folder.mkdir()
    samples = sorted(p for p in (ROOT / "samples").iterdir() if p.suffix in (".png", ".jpg"))
    random = np.random.default_rng(seed)
    for number in range(count):
        with Image.open(samples[number % len(samples)]) as sample:
            right, down = random.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, 2)
            ImageChops.offset(sample.convert("L"), int(right), int(down)).save(
                folder / f"{number:05}.png"
            )


def _run(checkpoint: Path, folder: Path, run: Path, workers: int) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMCXR_")}
    environment |= {"LLMCXR_CHECKPOINT": str(checkpoint), "LLMCXR_PIXEL_GATE": "warn"}
    command = [sys.executable, "-m", "llmcxr_service", "batch", str(folder), str(run)]
    command += ["--workers", str(workers), "--shard-size", "8", "--cpus", "0.5"]
    subprocess.run(command, env=environment, check=True)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    shutil.rmtree(run)
    return summary


def _result(arguments: argparse.Namespace, runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    rates = {workers: [run["per_second"] for run in results] for workers, results in runs.items()}
    middle = {workers: statistics.median(values) for workers, values in rates.items()}
    return {
        "what": "llmcxr batch on moved samples, one vLLM, reports with observations",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "radiographs": arguments.radiographs,
        "seed": arguments.seed,
        "drafted": {str(w): [run["by_status"]["drafted"] for run in r] for w, r in runs.items()},
        "per_second": {str(workers): values for workers, values in rates.items()},
        "two_workers_over_one": round(middle[2] / middle[1], 3),
        "archive": ARCHIVE,
        "days_for_the_archive_here": round(ARCHIVE / max(middle.values()) / 86_400, 1),
        "machines_like_this_for_the_archive_in_30_days": int(
            -(-ARCHIVE // (max(middle.values()) * 86_400 * 30))
        ),
    }


if __name__ == "__main__":
    main()
