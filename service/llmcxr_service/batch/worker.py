"""What runs in a Ray actor: a gateway's parts, opened once, and the shards that it is given."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcxr_models.idle_threads import wait_briefly
from llmcxr_service.batch.drafts import Drafts
from llmcxr_service.batch.plan import Plan
from llmcxr_service.batch.rows import Row, Status, row_of, write_part
from llmcxr_service.observability import Metrics
from llmcxr_service.runtime import Runtime, open_runtime
from llmcxr_service.settings import Settings

_TRIES = 3


@dataclass(frozen=True)
class WorkerOptions:
    """How workers work; nothing of it changes an answer.

    Attributes:
        concurrency: radiographs that one has in work at once.
        patience_seconds: how long the language model may be away before the run is ended.
    """

    concurrency: int
    patience_seconds: float


class ShardWorker:
    """Does shards, one after another; a class as Ray Data's `map` takes it.

    Args:
        plan: of the run.
        settings: of a gateway, with the language model's address.
        options: how to work.
    """

    def __init__(self, plan: Plan, settings: Settings, options: WorkerOptions) -> None:
        wait_briefly(os.environ)  # the VQ-GAN may share the cores with a vLLM
        self._plan = plan
        self._stack = AsyncExitStack()
        self._runner = asyncio.Runner()
        runtime = self._runner.run(self._open(settings))
        self._drafts = Drafts(
            runtime,
            plan,
            concurrency=options.concurrency,
            patience_seconds=options.patience_seconds,
        )

    async def _open(self, settings: Settings) -> Runtime:
        return await self._stack.enter_async_context(open_runtime(settings, Metrics(), None))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the shard of a row, unless it is done; how many radiographs became what.

        Raises:
            ModelAway: the language model was away for too long.
            OSError: the result cannot be written.
        """
        shard = int(row["shard"])
        if self._plan.part(shard).exists():
            # Ray has repeated it, because a worker was lost after it had been written.
            return {"shard": shard, **dict.fromkeys(Status, 0)}
        if self._plan.begin(shard) > _TRIES:
            rows = [row_of(item, Status.FAILED, "lost") for item in self._plan.items_of(shard)]
        else:
            rows = self._runner.run(self._drafts.shard(shard))
        write_part(self._plan.part(shard), rows)
        return {"shard": shard, **_counts(rows)}

    def close(self) -> None:
        """End what was started."""
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def __del__(self) -> None:
        """Ray ends its actors so."""
        if hasattr(self, "_drafts"):
            self.close()


def _counts(rows: list[Row]) -> dict[str, int]:
    return {status: sum(row["status"] == status for row in rows) for status in Status}


def parts_of(directory: Path) -> list[Path]:
    """Files of rows that are there, in order."""
    return sorted((directory / "parts").glob("*.parquet"))
