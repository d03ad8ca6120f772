"""A run's directory: what there is to do, in shards, and which of them are done.

plan.json            written last, so that half a plan is none
plan/000000.jsonl    the radiographs of a shard
parts/000000.parquet its rows, when it is done
sr/000000/           its structured reports
tries/000000         how often it was begun
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from llmcxr_service.batch.items import BatchItem
from llmcxr_service.durable_files import replace
from llmcxr_service.errors import BatchError

_VERSION = 1


@dataclass(frozen=True)
class BatchOptions:
    """What decides the answers of a run; one that is gone on with must have the same.

    Attributes:
        source: folder, manifest or query, as it was given.
        model: digest of the checkpoint's manifest.
        seed: of the first radiograph; the next one has the next.
        shard_size: radiographs of a shard.
        structured_reports: whether DICOM SR are written beside the table.
    """

    source: str
    model: str
    seed: int
    shard_size: int
    structured_reports: bool


@dataclass(frozen=True)
class Plan:
    """A planned run.

    Attributes:
        directory: of the run.
        options: of the run.
        items: radiographs in all.
    """

    directory: Path
    options: BatchOptions
    items: int

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.items // self.options.shard_size)

    def items_of(self, shard: int) -> list[BatchItem]:
        """The radiographs of a shard."""
        lines = (self.directory / "plan" / f"{shard:06}.jsonl").read_text(encoding="utf-8")
        return [BatchItem.from_line(line) for line in lines.splitlines()]

    def size_of(self, shard: int) -> int:
        """How many radiographs a shard has."""
        before = shard * self.options.shard_size
        return min(self.options.shard_size, self.items - before)

    def part(self, shard: int) -> Path:
        """Where the rows of a shard are, when it is done."""
        return self.directory / "parts" / f"{shard:06}.parquet"

    def structured_report(self, item: BatchItem) -> Path:
        """Where the structured report of a radiograph goes."""
        shard = item.number // self.options.shard_size
        return self.directory / "sr" / f"{shard:06}" / f"{item.number:09}.dcm"

    def remaining(self) -> list[int]:
        """Shards that are not done, in order."""
        done = {path.stem for path in (self.directory / "parts").glob("*.parquet")}
        return [shard for shard in range(self.shards) if f"{shard:06}" not in done]

    def begin(self, shard: int) -> int:
        """Note that a shard is begun; how often it has been, this time included."""
        tries = self.directory / "tries" / f"{shard:06}"
        count = 1 + (int(tries.read_text()) if tries.exists() else 0)
        replace(tries, str(count).encode())
        return count


def read_plan(directory: Path, options: BatchOptions) -> Plan | None:
    """The plan of a run that is gone on with; None where there is none yet.

    Raises:
        BatchError: the directory is that of another run, or its plan is damaged.
    """
    file = directory / "plan.json"
    try:
        found = json.loads(file.read_bytes())
        version, known = found["version"], BatchOptions(**found["options"])
        plan = Plan(directory, known, found["items"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise BatchError("The plan of the run in this directory cannot be read.") from None
    if version != _VERSION:
        raise BatchError("The run in this directory is of another version of the program.")
    differ = [name for name, value in asdict(known).items() if getattr(options, name) != value]
    if differ:
        raise BatchError(
            f"The directory is that of another run: {', '.join(differ)} differ. Take another one,"
            " or the same options."
        )
    return plan


async def write_plan(
    directory: Path, options: BatchOptions, items: AsyncIterator[BatchItem]
) -> Plan:
    """Write down all there is to do.

    Raises:
        BatchError: there is nothing to do, or the directory cannot be written, or as `items`.
    """
    try:
        _clear(directory)
        shard: list[str] = []
        count = 0
        async for item in items:
            shard.append(item.to_line())
            count += 1
            if len(shard) == options.shard_size:
                _write_shard(directory, count - 1, options, shard)
        _write_shard(directory, count - 1, options, shard)
        if count == 0:
            raise BatchError("The source has no radiographs.")
        whole = {"version": _VERSION, "options": asdict(options), "items": count}
        replace(directory / "plan.json", json.dumps(whole, indent=2).encode())
    except OSError:
        raise BatchError("The run's directory cannot be written.") from None
    return Plan(directory, options, count)


def _clear(directory: Path) -> None:
    """Make room; what a plan that was not finished has left is no use."""
    if any((directory / "parts").glob("*")):
        raise BatchError("The directory has results, but no plan that they belong to.")
    shutil.rmtree(directory / "plan", ignore_errors=True)
    for name in ("plan", "parts", "sr", "tries"):
        (directory / name).mkdir(parents=True, exist_ok=True)


def _write_shard(directory: Path, last: int, options: BatchOptions, lines: list[str]) -> None:
    if lines:
        file = directory / "plan" / f"{last // options.shard_size:06}.jsonl"
        file.write_text("".join(lines), encoding="utf-8")
        lines.clear()
