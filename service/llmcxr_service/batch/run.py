"""A whole run: plan or go on, start what is needed, hand out shards, sum up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.batch.archive_query import list_archive
from llmcxr_service.batch.cluster import Workers, ray_started, shards_done
from llmcxr_service.batch.items import BatchItem
from llmcxr_service.batch.listing import list_files
from llmcxr_service.batch.model_server import with_model_server
from llmcxr_service.batch.plan import BatchOptions, Plan, read_plan, write_plan
from llmcxr_service.batch.rows import Status
from llmcxr_service.batch.worker import ShardWorker, WorkerOptions
from llmcxr_service.durable_files import replace
from llmcxr_service.errors import BatchError
from llmcxr_service.rendering import ModelIdentity
from llmcxr_service.settings import Settings


@dataclass
class Summary:
    """What a run has done so far.

    Attributes:
        planned: radiographs in all.
        before: that earlier runs of the same plan had done.
        counts: of this one, by status.
        seconds: of this one, from the first shard on.
    """

    planned: int
    before: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Radiographs that this run has done."""
        return sum(self.counts.values())


def run_batch(
    settings: Settings,
    source: str,
    directory: Path,
    *,
    options: Callable[[str], BatchOptions],
    workers: Workers,
    work: WorkerOptions,
) -> Iterator[Summary]:
    """Do a run or go on with it; says where it stands after each shard.

    Args:
        settings: of a gateway: checkpoint, device, vLLM and archives.
        source: folder, manifest, or `dicomweb:NAME?Modality=DX&StudyDate=...`.
        directory: of the run.
        options: made of the checkpoint's digest.
        workers: how many, and where.
        work: how they work.

    Raises:
        BatchError: it cannot be planned or gone on with.
        CheckpointError: the checkpoint cannot be used.
    """
    checkpoint = Checkpoint.open(settings.checkpoint, verify=settings.verify_digests)
    wanted = options(ModelIdentity.of(checkpoint.manifest).digest)
    plan = read_plan(directory, wanted)
    if plan is None:
        plan = asyncio.run(write_plan(directory, wanted, _items(settings, source)))
    shards = plan.remaining()
    before = plan.items - sum(plan.size_of(shard) for shard in shards)
    summary = Summary(plan.items, before)
    yield summary
    if not shards:
        return
    if workers.address and not settings.vllm_urls:
        raise BatchError("A cluster's workers need LLMCXR_VLLM_URL: servers that all can reach.")
    with with_model_server(settings, checkpoint) as reachable, ray_started(workers):
        yield from _hand_out(plan, shards, summary, (plan, reachable, work), workers)


def _hand_out(
    plan: Plan,
    shards: list[int],
    summary: Summary,
    arguments: tuple[Plan, Settings, WorkerOptions],
    workers: Workers,
) -> Iterator[Summary]:
    from ray.exceptions import RayError

    started = time.monotonic()
    try:
        for done in shards_done(shards, ShardWorker, arguments, workers):
            for status in Status:
                summary.counts[status] += int(done[status])
            summary.seconds = time.monotonic() - started
            _write_summary(plan, summary)
            yield summary
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, BatchError):
            raise cause from None
        raise BatchError(
            f"A worker failed ({type(cause or error).__name__}). What is done is kept; the same"
            " command goes on."
        ) from None


def _write_summary(plan: Plan, summary: Summary) -> None:
    whole = {
        "planned": summary.planned,
        "done_before": summary.before,
        "done": summary.done,
        "by_status": summary.counts,
        "seconds": round(summary.seconds, 2),
        "per_second": round(summary.done / summary.seconds, 3) if summary.seconds else None,
    }
    replace(plan.directory / "summary.json", json.dumps(whole, indent=2).encode() + b"\n")


async def _items(settings: Settings, source: str) -> AsyncIterator[BatchItem]:
    if source.startswith("dicomweb:"):
        async for item in list_archive(settings, source):
            yield item
        return
    for item in list_files(Path(source)):
        yield item
