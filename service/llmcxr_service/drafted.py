"""An answer and where it comes from -> the draft that output formats are rendered from."""

from __future__ import annotations

from datetime import datetime

from llmcxr_models.report import Report
from llmcxr_service.answers import ReportAnswer
from llmcxr_service.draft import DraftReport
from llmcxr_service.rendering import HowDrawn, ModelIdentity
from llmcxr_service.source_instance import SourceInstance


def drafted(
    answer: ReportAnswer,
    how: HowDrawn,
    *,
    model: ModelIdentity,
    preprocessing: str,
    source: SourceInstance | None,
) -> DraftReport:
    """The draft, made now.

    Args:
        answer: what the model wrote.
        how: it was drawn.
        model: what wrote it.
        preprocessing: name of the pixels' preparation.
        source: the instance that it is about, if it has an identity.
    """
    return DraftReport(
        report=Report.parse(answer.text),
        observations=answer.observations,
        model=model,
        how=how,
        preprocessing=preprocessing,
        created=datetime.now().astimezone(),
        source=source,
        warnings=answer.warnings,
    )
