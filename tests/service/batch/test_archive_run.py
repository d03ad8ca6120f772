"""The command on a real Ray, killed and gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from tests.pictures import dicom, png

from llmcxr_service.batch.worker import parts_of

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("archive_run.py")


def namespace():
    """How to run a program where only loopback is; None where that cannot be done."""
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "-n", "sh", "-c", script, "sh"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else command


def test_a_run_that_was_killed_goes_on(checkpoint_path, tmp_path):
    isolated = namespace()
    if isolated is None:
        pytest.skip("Ray listens on every address, and no network namespace can be made here")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(7):
        uid = f"1.2.826.0.1.3680043.8.498.{number}"
        data = dicom(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1")
        (folder / f"{number}.dcm").write_bytes(data)
    (folder / "damaged").write_bytes(b"x" * 400)
    (folder / "p.png").write_bytes(png())
    done = subprocess.run(
        [*isolated, sys.executable, PROGRAM, checkpoint_path, folder, tmp_path / "run"],
        cwd=ROOT,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert 1 <= len(told["before"]) <= 5
    assert told["statuses"] == [0, 0]
    assert told["unchanged"]
    rows = [
        row for part in parts_of(tmp_path / "run") for row in parquet.read_table(part).to_pylist()
    ]
    assert [row["number"] for row in rows] == list(range(9))
    assert [row["status"] for row in rows].count("drafted") == 8
    assert all((tmp_path / "run" / row["structured_report"]).exists() for row in rows[:7])
