"""What ends a whole run; what is wrong with one radiograph is a row of the result instead."""

from __future__ import annotations

from llmcxr_models.errors import CxrError


class BatchError(CxrError):
    """The run cannot be planned, or not be gone on with; what was done is kept."""

    default_reason = "batch"


class ModelAway(BatchError):
    """The language model did not come back for so long that the run was ended."""

    default_reason = "model-away"
