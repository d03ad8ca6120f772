"""Everything that `llmcxr-train shift` depends on: its TOML file, which names another one."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llmcxr_training.datasets import Data


class DomainShift(BaseModel):
    """Everything but the checkpoint.

    Attributes:
        evaluation: TOML file of `llmcxr-train evaluate`: data, judge, split, intervals, sampling.
        output: folder of results; what is in it is not computed again.
        others: radiographs of other hospitals, in the split `shift`; each collection is a source.
        shifts: names of simulated shifts; None for all.
        reconstructions: radiographs of each shift that go through the VQ-GAN, which costs most;
            None for all. Gate and judge look at all.
        findings: ask the language model about findings, too.
        reports: let it write reports, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation: Path
    output: Path
    others: Data | None = None
    shifts: tuple[str, ...] | None = None
    reconstructions: int | None = Field(default=None, ge=2)
    findings: bool = False
    reports: bool = False
