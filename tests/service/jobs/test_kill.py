"""A few kills of a real gateway; scripts/kill_jobs.py does hundreds."""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "kill_jobs.py"


def test_nothing_is_lost_and_nothing_double(tmp_path):
    spec = importlib.util.spec_from_file_location("kill_jobs", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules["kill_jobs"] = script  # its data classes look for their module there
    try:
        spec.loader.exec_module(script)
        figures = script.run(kills=3, seed=11, directory=tmp_path)
    finally:
        del sys.modules["kill_jobs"]
    assert figures["acknowledged"] == figures["jobs"] >= 1
    for name in ("jobs_lost", "items_lost", "jobs_double", "answers_changed", "audit_complaints"):
        assert figures[name] == 0, name
