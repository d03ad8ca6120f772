"""JSON of the answers about the service itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from llmcxr_service.schemas import Model


class Alive(BaseModel):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Requests will be answered."""

    status: Literal["ready"] = "ready"


class ModelDescription(Model):
    """The checkpoint that is served."""

    served_name: str
    template: str
    preprocessing: str
    views: list[str]
    image_size: int
    image_tokens: int
    codebook_size: int
    max_model_len: int
    judge: list[str] = Field(
        description="Findings that images can be picked by (`best_of`); empty without a judge."
    )
    guidance: list[str] = Field(
        description="Findings that drawing can lean towards (`guidance`); empty without tables."
    )
    stated_from: dict[str, float] = Field(
        description="Findings that a report's prompt states, with the least probability of the"
        " model's own answer from which on it does; empty where the checkpoint was not taught it."
    )
    files: dict[str, str] = Field(description="SHA-256 by path.")
    provenance: dict[str, Any]
