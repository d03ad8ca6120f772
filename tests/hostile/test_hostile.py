"""A short, seeded form of the attack, the files that once did harm, and the generator itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hostile.attack import attack
from tests.hostile.case import Case, Dice
from tests.hostile.drained import drained
from tests.hostile.gateway import gateway
from tests.hostile.generator import DOORS, FILES, Door, hostile_cases
from tests.hostile.senders import Meaning, describe
from tests.hostile.server import hospital

ROUNDS = {Door.UPLOAD: 3, Door.STOW: 1, Door.PULL: 1, Door.DIMSE: 2}
CRASHERS = Path(__file__).parent / "crashers"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with hospital(tmp_path_factory.mktemp("hospital"), DECODE_WORKERS="2") as found:
        yield found


@pytest.fixture(scope="module")
def kept():
    """Hostile instances and sound ones that the queue was given."""
    return []


@pytest.mark.parametrize("door", Door)
def test_every_class_through_every_door(place, door, kept):
    count = ROUNDS[door] * len(DOORS[door].kinds)
    cases = hostile_cases(door, count, seed=7)
    outcome = attack(place, door, cases, concurrency=2, warm_up=count // 4)
    kept.append((outcome.kept, outcome.sound_kept))
    assert outcome.count == count
    assert [answer for _, answer in outcome.untyped] == []
    assert outcome.server_errors == 0
    assert not outcome.died
    assert outcome.growth_mib <= 64
    assert set(outcome.sound) <= {"200", "0x0000"}


def test_nothing_hostile_that_was_kept_becomes_a_report(place, kept):
    ended = drained(place.server.folder / "spool", 300.0)
    hostile, sound = (sum(each) for each in zip(*kept, strict=True))
    assert ended["drafts"].get("dead unusable", 0) == hostile > 0
    assert ended["drafts"].get("done", 0) == sound == len(place.archive.instances) / 2


def test_sound_files_pass_every_door(place):
    from tests.hostile.senders import sender

    for door in Door:
        sending = sender(place, door)
        said = sending.send_sound(99)
        sending.close()
        assert said.text in ("200", "0x0000"), door


async def test_files_that_once_did_harm():
    async with gateway(decode_workers=2) as client:
        for path in sorted(CRASHERS.glob("*-*")):
            headers = {"Content-Type": "application/octet-stream"}
            for route in ("/generate-report", "/reconstruct"):
                response = await client.post(route, content=path.read_bytes(), headers=headers)
                said = describe(response)
                assert said.meaning is Meaning.REFUSED, (path.name, said.text)


@pytest.mark.parametrize("door", Door)
def test_requests_are_distinct(door):
    kinds = DOORS[door].kinds
    cases = list(hostile_cases(door, 2 * len(kinds), seed=3))
    assert {case.kind for case in cases} == set(kinds)
    assert len(kinds) >= 35
    assert len({case.identity for case in cases}) == len(cases)


_DIGEST = """
import hashlib, sys
from tests.hostile.generator import DOORS, Door, hostile_cases
digest = hashlib.sha256()
for door in Door:
    for case in hostile_cases(door, 2 * len(DOORS[door].kinds), seed=4):
        digest.update(case.identity)
print(digest.hexdigest())
"""


def test_the_same_seed_makes_the_same_requests_in_another_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(number), "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number, zone in ((1, "UTC"), (2, "Asia/Seoul"))
    }
    assert len(found) == 1


@pytest.mark.parametrize("kind", FILES)
def test_another_seed_makes_another_file(kind):
    assert len({FILES[kind](Dice(i)) for i in range(12)}) > 1


def test_an_undocumented_answer_is_noticed():
    import httpx

    for status, headers, content in (
        (200, {}, b"{}"),
        (500, {"content-type": "application/problem+json"}, b'{"type": "/problems/x"}'),
        (404, {"content-type": "application/problem+json"}, b'{"type": "/problems/not-found"}'),
        (422, {"content-type": "text/html"}, b""),
        (409, {"content-type": "application/dicom+json"}, b"{}"),
    ):
        response = httpx.Response(status, headers=headers, content=content)
        assert describe(response).meaning is Meaning.UNTYPED, status


def test_cases_of_http_carry_what_the_archive_answers():
    pulls = [c for c in hostile_cases(Door.PULL, 80, seed=1) if isinstance(c, Case)]
    assert len(pulls) == 80
    assert sum(case.answer is not None for case in pulls) > 60
