"""A short form of scripts/canaries.py, and that the search would find what it looks for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from tests.hostile import identifiers
from tests.hostile.canaries import Searched
from tests.hostile.identifiers import CANARIES

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 170


def test_no_identifier_comes_out_again(tmp_path):
    output = tmp_path / "canaries.json"
    command = [sys.executable, "-m", "tests.hostile.canaries", "--requests", str(REQUESTS)]
    subprocess.run([*command, "--output", str(output)], cwd=ROOT, capture_output=True, check=False)
    found = json.loads(output.read_text())
    assert found["found"] == {}
    assert found["canaries"] == found["canaries_sent"] == 50
    assert sum(found["answers"].values()) == REQUESTS
    assert not any(status.startswith("5") for status in found["answers"])
    assert found["log_lines"] >= REQUESTS
    assert found["temporary_files"] == 0


def test_the_search_finds_every_canary_in_any_case():
    for change in (str, str.lower, str.upper):
        searched = Searched()
        for name, value in CANARIES.items():
            searched.search(name, f"before {change(value)} after".encode())
        assert sorted(searched.found) == sorted(f"{name}: {name}" for name in CANARIES)


def test_every_canary_is_sent_soon():
    dice = random.Random(5)
    made = [identifiers.request(number, dice) for number in range(340)]
    sent = b"".join(r.content + repr((r.path, r.headers, r.params)).encode() for r in made)
    assert all(value.encode() in sent for value in CANARIES.values())
