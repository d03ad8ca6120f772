"""Shards by a gateway's parts, without its routes: the models here, vLLM over the network.

What is wrong with a radiograph becomes its row. What is wrong with the model is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type
from tenacity.stop import stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from llmcxr_models.errors import CxrError, GeneratorTimeout, GeneratorUnavailable, InvalidInput
from llmcxr_service.answers import ReportAnswer
from llmcxr_service.batch.items import BatchItem
from llmcxr_service.batch.plan import Plan
from llmcxr_service.batch.rows import Row, Status, drafted_row, row_of
from llmcxr_service.drafted import drafted
from llmcxr_service.durable_files import replace
from llmcxr_service.errors import (
    BatchError,
    BodyTooLarge,
    DecoderUnavailable,
    InstanceNotFound,
    ModelAway,
    NotAcceptable,
    Overloaded,
    SourceError,
    SourceTimeout,
    SourceUnavailable,
    UnknownSource,
)
from llmcxr_service.gathering import all_of
from llmcxr_service.generator import Sampling
from llmcxr_service.inference import SEEDS
from llmcxr_service.outputs.formats import check_possible, render
from llmcxr_service.receiving import Output
from llmcxr_service.rendering import HowDrawn
from llmcxr_service.runtime import Runtime
from llmcxr_service.schemas import ReportOptions
from llmcxr_service.source_instance import SourceInstance

LOGGER = logging.getLogger(__name__)

_PASSING = (GeneratorUnavailable, Overloaded, DecoderUnavailable)
_TIMEOUTS = 3
"""A radiograph for which no answer came in time so often is given up; the others are not."""
_PASSING_ARCHIVE = (SourceUnavailable, SourceTimeout)
_ARCHIVE_SECONDS = 60.0


class Drafts:
    """Drafts the reports of shards.

    Args:
        runtime: the parts of a gateway.
        plan: of the run.
        concurrency: radiographs in work at once.
        patience_seconds: how long the language model may be away before the run is ended.
    """

    def __init__(
        self, runtime: Runtime, plan: Plan, *, concurrency: int, patience_seconds: float
    ) -> None:
        self._runtime = runtime
        self._plan = plan
        self._places = asyncio.Semaphore(concurrency)
        self._patience_seconds = patience_seconds

    async def shard(self, number: int) -> list[Row]:
        """The rows of a shard, in order.

        Raises:
            ModelAway: the language model was away for too long.
        """
        items = self._plan.items_of(number)
        return await all_of([self._in_place(item) for item in items])

    async def _in_place(self, item: BatchItem) -> Row:
        async with self._places:
            return await self._row(item)

    async def _row(self, item: BatchItem) -> Row:
        try:
            data = await self._read(item)
            return await self._draft(item, data)
        except (OSError, InstanceNotFound, SourceError, UnknownSource) as error:
            reason = error.reason if isinstance(error, CxrError) else "unreadable"
            return row_of(item, Status.MISSING, reason)
        except (InvalidInput, BodyTooLarge) as error:
            return row_of(item, Status.REFUSED, error.reason)
        except BatchError:
            raise
        except Exception as error:
            # One radiograph never ends a run; its text may quote a file, so it is not logged.
            LOGGER.error("not drafted", extra={"fields": {"why": type(error).__name__}})
            return row_of(item, Status.FAILED, getattr(error, "reason", "error"))

    async def _read(self, item: BatchItem) -> bytes:
        if not item.archive:
            return await asyncio.to_thread(self._read_file, Path(item.path))
        return await AsyncRetrying(
            retry=retry_if_exception_type(_PASSING_ARCHIVE),
            wait=wait_random_exponential(multiplier=0.5, max=10.0),
            stop=stop_after_delay(_ARCHIVE_SECONDS),
            reraise=True,
        )(self._runtime.archives.retrieve, item.dicomweb)

    def _read_file(self, path: Path) -> bytes:
        limit = self._runtime.settings.max_body_bytes
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise BodyTooLarge(f"The file has more than {limit} bytes.")
        return data

    async def _draft(self, item: BatchItem, data: bytes) -> Row:
        runtime = self._runtime
        options = ReportOptions()
        seed = (self._plan.options.seed + item.number) % SEEDS
        sampling = Sampling(seed, options.temperature, options.top_p)
        how = HowDrawn(sampling, options.max_tokens)
        source = await self._identity(data)
        answer = await self._patiently(data, item.indication, how)
        preprocessing = runtime.checkpoint.manifest.preprocessing.name
        row = drafted_row(item, answer, how, runtime.model, preprocessing)
        if source is None:
            return row
        try:
            draft = drafted(
                answer, how, model=runtime.model, preprocessing=preprocessing, source=source
            )
            report = await asyncio.to_thread(render, draft, Output.ENHANCED_SR)
            path = self._plan.structured_report(item)
            await asyncio.to_thread(_write_report, path, report)
            return row | {"structured_report": str(path.relative_to(self._plan.directory))}
        except (InvalidInput, NotAcceptable) as error:
            return row | {"reason": error.reason}  # drafted, but there is no such form of it

    async def _identity(self, data: bytes) -> SourceInstance | None:
        """Whose radiograph it is, where a structured report is wanted and there is an identity."""
        if not self._plan.options.structured_reports or data[128:132] != b"DICM":
            return None
        try:
            source = await self._runtime.decoder.identify(data)
            check_possible(Output.ENHANCED_SR, source, observing=True)
        except InvalidInput:
            return None  # if the file is damaged, the next step says so
        return source

    async def _patiently(self, data: bytes, indication: str, how: HowDrawn) -> ReportAnswer:
        try:
            return await AsyncRetrying(
                retry=retry_if_exception_type(_PASSING),
                wait=wait_random_exponential(multiplier=0.5, max=15.0),
                stop=stop_after_delay(self._patience_seconds),
            )(self._in_time, data, indication, how)
        except RetryError:
            raise ModelAway(
                f"The language model has not answered for {self._patience_seconds:.0f} seconds."
                " What is done is kept; the same command goes on."
            ) from None

    async def _in_time(self, data: bytes, indication: str, how: HowDrawn) -> ReportAnswer:
        return await AsyncRetrying(
            retry=retry_if_exception_type(GeneratorTimeout),
            stop=stop_after_attempt(_TIMEOUTS),
            reraise=True,
        )(self._runtime.inference.report, data, indication, how.sampling, how.max_tokens or 0)


def _write_report(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, data)
