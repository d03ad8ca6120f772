"""Rows of the result: one a radiograph, whatever became of it, as Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from llmcxr_models.report import Report
from llmcxr_service.answers import ReportAnswer
from llmcxr_service.batch.items import BatchItem
from llmcxr_service.durable_files import replace
from llmcxr_service.rendering import HowDrawn, ModelIdentity


class Status(StrEnum):
    """What became of a radiograph."""

    DRAFTED = "drafted"
    REFUSED = "refused"
    """The file is not one that the model reads; `reason` says why."""
    MISSING = "missing"
    """There is no such file, or the archive does not give the instance."""
    FAILED = "failed"
    """It went wrong in a way that is not the file's fault, as often as it was tried."""


_OBSERVATION = pyarrow.struct(
    {
        "name": pyarrow.string(),
        "probability": pyarrow.float32(),
        "mentioned": pyarrow.bool_(),
    }
)
SCHEMA = pyarrow.schema(
    {
        "number": pyarrow.int64(),
        "path": pyarrow.string(),
        "archive": pyarrow.string(),
        "study": pyarrow.string(),
        "series": pyarrow.string(),
        "instance": pyarrow.string(),
        "status": pyarrow.string(),
        "reason": pyarrow.string(),
        "findings": pyarrow.string(),
        "impression": pyarrow.string(),
        "observations": pyarrow.list_(_OBSERVATION),
        "warnings": pyarrow.list_(pyarrow.string()),
        "mean_log_probability": pyarrow.float32(),
        "structured_report": pyarrow.string(),
        "seed": pyarrow.int64(),
        "temperature": pyarrow.float32(),
        "top_p": pyarrow.float32(),
        "max_tokens": pyarrow.int32(),
        "preprocessing": pyarrow.string(),
        "prompt_tokens": pyarrow.int32(),
        "completion_tokens": pyarrow.int32(),
        "milliseconds": pyarrow.float32(),
        "model": pyarrow.string(),
        "model_version": pyarrow.string(),
        "model_digest": pyarrow.string(),
    },
    metadata={"notice": "AI-generated drafts, preliminary, research use only"},
)

Row = dict[str, Any]


def row_of(item: BatchItem, status: Status, reason: str = "") -> Row:
    """A row that says where a radiograph is and what became of it."""
    return {
        "number": item.number,
        "path": item.path,
        "archive": item.archive,
        "study": item.study,
        "series": item.series,
        "instance": item.instance,
        "status": status.value,
        "reason": reason,
    }


def drafted_row(
    item: BatchItem, answer: ReportAnswer, how: HowDrawn, model: ModelIdentity, preprocessing: str
) -> Row:
    """The row of a drafted report, with all that is needed to draft it again."""
    report = Report.parse(answer.text)
    return row_of(item, Status.DRAFTED) | {
        "findings": report.findings,
        "impression": report.impression,
        "observations": [
            {"name": o.finding.name, "probability": o.probability, "mentioned": o.mentioned}
            for o in answer.observations
        ],
        "warnings": list(answer.warnings),
        "mean_log_probability": answer.mean_log_probability,
        "seed": how.sampling.seed,
        "temperature": how.sampling.temperature,
        "top_p": how.sampling.top_p,
        "max_tokens": how.max_tokens,
        "preprocessing": preprocessing,
        "prompt_tokens": answer.usage[0],
        "completion_tokens": answer.usage[1],
        "milliseconds": answer.timings_ms["total"],
        "model": model.name,
        "model_version": model.version,
        "model_digest": model.digest,
    }


def write_part(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows of a shard, wholly or not at all.

    Raises:
        OSError: it is not written.
    """
    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist(list(rows), schema=SCHEMA)
    parquet.write_table(table, buffer, compression="zstd")
    replace(path, buffer.getvalue())
