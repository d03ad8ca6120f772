"""The short form of scripts/reliability.py: a few kinds of faults, and a few seconds of load."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = (
    "refused,reset-before-answer,closed-in-body,hanging,late,no-http,status-500,status-429,"
    "bad-json,too-few-tokens,out-of-range-token,client-gone,slow-client,deadline,one-of-two-gone"
)


def run(tmp_path, *arguments):
    output = tmp_path / "reliability.json"
    command = [sys.executable, "scripts/reliability.py", *arguments, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert output.exists(), done.stderr[-3000:]
    return json.loads(output.read_text())


def test_faults(tmp_path):
    found = run(tmp_path, "faults", "--repeats", "6", "--kinds", KINDS)["faults"]
    assert found["kinds"] == len(KINDS.split(","))
    assert (found["wrong"], found["mixed_up"]) == (0, 0), found["by_kind"]
    assert found["slowest_recovery_seconds"] <= 5.0


def test_load(tmp_path):
    options = ("--rate", "5", "--seconds", "3", "--overload-seconds", "3")
    found = run(tmp_path, "load", *options)["load"]
    assert found["rated_errors"] == 0
    assert found["rated_answered"] > 5
    assert found["overload_wrong"] == 0
