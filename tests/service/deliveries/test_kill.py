"""A few kills of a real gateway; scripts/kill_deliveries.py does hundreds."""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "kill_deliveries.py"


def test_nothing_is_lost_and_nothing_double(tmp_path):
    spec = importlib.util.spec_from_file_location("kill_deliveries", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules["kill_deliveries"] = script  # its data classes look for their module there
    try:
        spec.loader.exec_module(script)
        figures = script.run(kills=5, seed=11, directory=tmp_path, sending=True)
    finally:
        del sys.modules["kill_deliveries"]
    assert figures["acknowledged"] == figures["reports_in_the_archive"] == 5
    assert (figures["lost"], figures["double"], figures["changed_bytes"]) == (0, 0, 0)
