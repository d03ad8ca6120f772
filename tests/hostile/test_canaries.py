"""A short form of scripts/canaries.py, and that the search would find what it looks for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from tests.hostile import canary_doors, dimse_cases, identifiers
from tests.hostile.canaries import Searched
from tests.hostile.identifiers import CANARIES

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 200


def test_no_identifier_comes_out_again(tmp_path):
    output = tmp_path / "canaries.json"
    command = [sys.executable, "-m", "tests.hostile.canaries", "--requests", str(REQUESTS)]
    subprocess.run([*command, "--output", str(output)], cwd=ROOT, capture_output=True, check=False)
    found = json.loads(output.read_text())
    assert found["found"] == {}
    assert found["canaries"] == found["canaries_sent"] >= 50
    assert sum(sum(answers.values()) for answers in found["answers"].values()) == REQUESTS
    for door in ("upload", "stow-rs", "dimse"):
        assert not any(status.startswith("5") for status in found["answers"][door])
    one, two = found["uploads_and_pulls"], found["received_and_delivered"]
    assert one["alive"]
    assert two["alive"]
    assert one["log_lines"] + two["log_lines"] >= REQUESTS
    assert one["temporary_files"] == two["temporary_files"] == 0
    # Some were delivered, so that the search had something to look at.
    assert two["files_meant_for_a_patient's_data"] > 0
    assert two["of_which_others_may_read"] == 0
    assert two["deliveries"]["done"] > 0


def test_the_search_finds_every_canary_in_any_case():
    for change in (str, str.lower, str.upper):
        searched = Searched()
        for name, value in CANARIES.items():
            searched.search(name, f"before {change(value)} after".encode())
        assert sorted(searched.found) == sorted(f"{name}: {name}" for name in CANARIES)


def test_every_canary_of_uploads_is_sent_soon():
    dice = random.Random(5)
    made = [identifiers.request(number, dice) for number in range(340)]
    sent = b"".join(r.content + repr((r.path, r.headers, r.params)).encode() for r in made)
    of_uploads = CANARIES.keys() - set(identifiers.OF_OTHER_DOORS)
    assert len(of_uploads) == 50
    assert all(CANARIES[name].encode() in sent for name in of_uploads)


def test_only_what_must_be_repeated_is_left_out_of_the_search():
    uid, name = b"1.2.826.0.77.1", CANARIES["PatientName"].encode()
    command = dimse_cases.command({0x1000: uid, 0x0902: name})
    left = canary_doors.pdu_without_what_is_meant(dimse_cases.pdata((1, 3, command)))
    assert uid not in left
    assert name in left
    accepted = b"\x02" + dimse_cases.associate(calling=b"ZQTITLE")[1:] + name
    left = canary_doors.pdu_without_what_is_meant(accepted)
    assert b"ZQTITLE" not in left
    assert name in left
    module = {
        "00081199": {
            "vr": "SQ",
            "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}, "00100010": {"vr": "PN"}}],
        }
    }
    assert canary_doors.without_what_is_meant(module)["00081199"]["Value"] == [
        {"00100010": {"vr": "PN"}}
    ]
