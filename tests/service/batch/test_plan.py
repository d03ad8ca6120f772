"""A run's directory: planned whole or not at all, and gone on with only as the same run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcxr_service.batch.items import BatchItem
from llmcxr_service.batch.plan import BatchOptions, read_plan, write_plan
from llmcxr_service.errors import BatchError

OPTIONS = BatchOptions("folder", "digest", seed=3, shard_size=4, structured_reports=True)


async def items(count):
    for number in range(count):
        yield BatchItem(number, path=f"/p/é{number}", indication="Why?\n" if number == 1 else "")


async def test_shards_hold_all_radiographs_in_order(tmp_path):
    await write_plan(tmp_path, OPTIONS, items(10))
    plan = read_plan(tmp_path, OPTIONS)
    assert plan is not None
    assert (plan.items, plan.shards, plan.remaining()) == (10, 3, [0, 1, 2])
    listed = [item async for item in items(10)]
    assert [item for shard in range(3) for item in plan.items_of(shard)] == listed
    assert [plan.size_of(shard) for shard in range(3)] == [4, 4, 2]


async def test_what_is_done_does_not_remain(tmp_path):
    plan = await write_plan(tmp_path, OPTIONS, items(10))
    plan.part(1).touch()
    assert plan.remaining() == [0, 2]
    assert [plan.begin(0), plan.begin(0), plan.begin(2)] == [1, 2, 1]


async def test_half_a_plan_is_none(tmp_path):
    async def broken():
        async for item in items(9):
            yield item
        raise BatchError("The archive is away.")

    with pytest.raises(BatchError):
        await write_plan(tmp_path, OPTIONS, broken())
    assert read_plan(tmp_path, OPTIONS) is None
    plan = await write_plan(tmp_path, OPTIONS, items(2))
    assert (plan.shards, len(list((tmp_path / "plan").iterdir()))) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [{"source": "other"}, {"model": "other"}, {"seed": 4}, {"shard_size": 5}],
)
async def test_another_run_is_not_mixed_in(tmp_path, change):
    await write_plan(tmp_path, OPTIONS, items(10))
    with pytest.raises(BatchError, match=next(iter(change))):
        read_plan(tmp_path, replace(OPTIONS, **change))


async def test_nothing_to_do(tmp_path):
    with pytest.raises(BatchError):
        await write_plan(tmp_path, OPTIONS, items(0))
    assert read_plan(tmp_path, OPTIONS) is None


async def test_results_without_a_plan_are_not_overwritten(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "000000.parquet").touch()
    with pytest.raises(BatchError):
        await write_plan(tmp_path, OPTIONS, items(1))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 1, "options": {}}'])
def test_a_damaged_plan(tmp_path, content):
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(BatchError):
        read_plan(tmp_path, OPTIONS)
