"""A short, seeded form of the attack, the files that once did harm, and the generator itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.hostile.attack import attack, describe
from tests.hostile.gateway import gateway, workers_replaced
from tests.hostile.generator import FILES, KINDS, hostile_cases

PER_CLASS = 6
CRASHERS = Path(__file__).parent / "crashers"


async def test_some_hundred_hostile_requests():
    count = PER_CLASS * len(KINDS)
    async with gateway(decode_workers=2) as (client, app):
        outcome = await attack(
            client, hostile_cases(count, seed=7), concurrency=2, warm_up=count // 4
        )
        replaced = workers_replaced(app)
    assert outcome.count == count
    assert outcome.untyped == []
    assert outcome.with_status(4) == count
    assert set(outcome.good) == {200}
    assert outcome.growth_mib <= 64
    assert outcome.percentile(50) < 2
    assert replaced["died"] == 2 * PER_CLASS  # those that are meant to, each in two workers
    assert sum(replaced.values()) == replaced["died"]


async def test_files_that_once_did_harm():
    async with gateway(decode_workers=2) as (client, _):
        for path in sorted(CRASHERS.glob("*-*")):
            headers = {"Content-Type": "application/octet-stream"}
            for route in ("/generate-report", "/reconstruct"):
                response = await client.post(route, content=path.read_bytes(), headers=headers)
                answer, typed = describe(response)
                assert typed, (path.name, answer)


def test_requests_are_distinct_and_repeatable():
    first = list(hostile_cases(3 * len(KINDS), seed=3))
    again = list(hostile_cases(3 * len(KINDS), seed=3))
    assert first == again
    assert {case.kind for case in first} == set(KINDS)
    assert len(KINDS) >= 20
    sent = [
        hashlib.sha256(case.content + repr((case.path, case.headers, case.params)).encode())
        for case in first
    ]
    assert len({digest.digest() for digest in sent}) == len(first)


@pytest.mark.parametrize("kind", FILES)
def test_another_seed_makes_another_file(kind):
    from tests.hostile.case import Dice

    assert len({FILES[kind](Dice(i)) for i in range(12)}) > 1
