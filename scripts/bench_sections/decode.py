"""Section `decode`: reading and scaling a file beside pydicom alone; measured by bench_decode.py.

Speeds, so that more is better as everywhere here: pydicom's processor time over ours.
"""

from __future__ import annotations

from bench_decode import measure_all

from bench_sections.figures import Figures
from bench_sections.ratios import paired_ratio
from bench_sections.stage import Stage

SECONDS = 150


def run(stage: Stage) -> Figures:
    """Measure."""
    stage.close()  # nothing else shall compute
    found = measure_all(1 if stage.quick else 15)
    cpu = [file["cpu_ms"] for file in found["files"].values()]
    ours = [file["ours"] for file in cpu]
    return {
        "repeats": found["repeats"],
        # Over kinds of files, whose ratios differ widely; the interval says how widely.
        "decode_vs_pydicom": paired_ratio([file["pydicom"] for file in cpu], ours),
        "decode_vs_usual": paired_ratio([file["usual"] for file in cpu], ours),
        "files_per_second_and_core": found["files_per_second_and_core"],
        "files": found["files"],
    }
