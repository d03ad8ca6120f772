"""Against a real Orthanc and DCMTK, where they are installed: see scripts/orthanc_round_trip.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "orthanc_round_trip.py"


def why_not():
    """Why it cannot run here; empty where it can."""
    spec = importlib.util.spec_from_file_location("orthanc_round_trip", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = module.missing_programs()
    if missing:
        return f"not installed: {', '.join(missing)}"
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "no network namespace can be made here" if probe.returncode else ""


def test_a_radiograph_goes_round(tmp_path):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--keep", tmp_path / "files"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ok    ") == 6
