"""A received instance -> the outputs that its order names, by the same steps as a request.

Runs on the application's event loop, where the models are; the queue's threads wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from llmcxr_models.errors import InvalidInput
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.draft import DraftReport
from llmcxr_service.drafted import drafted
from llmcxr_service.errors import NotAcceptable
from llmcxr_service.generator import Sampling
from llmcxr_service.inference import Inference
from llmcxr_service.observability import Door
from llmcxr_service.receiving import Output
from llmcxr_service.rendering import HowDrawn, ModelIdentity
from llmcxr_service.schemas import ReportOptions
from llmcxr_service.source_instance import SourceInstance

LOGGER = logging.getLogger(__name__)

Render = Callable[[DraftReport, Output], bytes]


class Drafting:
    """Makes reports for the queue.

    Args:
        inference: the steps.
        model: what writes.
        spool: where sources are, and outputs go.
        render: a draft to the bytes of one output.
        loop: where inference runs.
    """

    def __init__(
        self,
        inference: Inference,
        model: ModelIdentity,
        spool: Spool,
        render: Render,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._inference = inference
        self._model = model
        self._spool = spool
        self._render = render
        self._loop = loop

    def make(self, job: str, outputs: tuple[Output, ...]) -> None:
        """Make and keep all outputs of a job; blocking, from another thread than the loop's.

        Raises:
            CxrError: no report was made.
            SendFailed: the source is gone, or none of the outputs can be made of the report.
        """
        source = self._spool.source(job)
        if source is None:
            raise SendFailed("The instance is not in the spool any more.", Reason.MISSING)
        work = self._draft(*source, seed=int(job[:8], 16))
        draft = asyncio.run_coroutine_threadsafe(work, self._loop).result()
        self._spool.put_outputs(job, self._rendered(draft, outputs))

    async def _draft(self, data: bytes, source: SourceInstance, *, seed: int) -> DraftReport:
        # The same defaults as a request's; the seed comes from the job, so that a draft which
        # was lost in a crash is drawn alike.
        options = ReportOptions(seed=seed)
        sampling = Sampling(seed, options.temperature, options.top_p)
        answer = await self._inference.report(data, "", sampling, options.max_tokens)
        self._inference.metrics.reports.labels(Door.QUEUE.value).inc()
        return drafted(
            answer,
            HowDrawn(sampling, options.max_tokens),
            model=self._model,
            preprocessing=self._inference.manifest.preprocessing.name,
            source=source,
        )

    def _rendered(self, draft: DraftReport, outputs: tuple[Output, ...]) -> Mapping[str, bytes]:
        """What can be made of a draft; some forms need what an instance may not have."""
        rendered: dict[str, bytes] = {}
        failed = False
        for output in outputs:
            try:
                rendered[output.value] = self._render(draft, output)
            except (InvalidInput, NotAcceptable) as error:
                failed = True
                fields = {"output": output.value, "reason": error.reason}
                LOGGER.warning("an output cannot be made", extra={"fields": fields})
        if failed and not rendered:
            raise SendFailed("None of the outputs can be made.", Reason.UNUSABLE)
        return rendered
