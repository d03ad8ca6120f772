"""The TOML file of `llmcxr-train ablate`: factors and their levels, seeds, and equal compute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmcxr_training.compute import Budget
from llmcxr_training.config_file import ConfigError
from llmcxr_training.evaluation.settings import ImageSampling
from llmcxr_training.refinement import Refinement

Level = int | float | str

BASE_LEVEL = re.compile(r"whole|(?:scratch-)?every-[1-9]\d*")
_MIXING_LEVEL = re.compile(r"\d+/\d+/\d+")
_PERCENT = 100


class AblationError(ConfigError):
    """A grid cannot be run as it is."""


class Factors(BaseModel):
    """What is varied, each with its levels; all combinations are run. One level fixes a factor.

    Attributes:
        stages: 1, everything from one mixture; or 2, first all pairs and then the refined ones.
        refined: share of the compute that is spent on refined pairs.
        self_instruct: share of the plain instructions that the base model wrote itself; the
            others are the user-oriented ones.
        mixing: radiograph to text / report to radiograph / plain instructions, in percent.
        base: `whole`; `every-K`, each K-th layer of it; `scratch-every-K`, the same shape with
            the same tokenizer and drawn weights.
        image_tokens: codes of an image; each level names a VQ-GAN in `[vqgans]`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stages: tuple[Literal[1, 2], ...] = ()
    refined: tuple[float, ...] = ()
    self_instruct: tuple[float, ...] = ()
    mixing: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    image_tokens: tuple[int, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: object) -> object:
        unknown = sorted(set(values) - set(cls.model_fields)) if isinstance(values, dict) else []
        if unknown:
            known = ", ".join(cls.model_fields)
            raise ValueError(f"no factor {', '.join(unknown)}; there are {known}")
        return values

    @field_validator("refined", "self_instruct")
    @classmethod
    def _shares(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= level <= 1 for level in levels):
            raise ValueError("a level is a share between 0 and 1")
        return levels

    @field_validator("mixing")
    @classmethod
    def _percents(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for level in levels:
            if not _MIXING_LEVEL.fullmatch(level) or sum(mixing_shares(level)) != _PERCENT:
                raise ValueError(f"a level is three percentages as 40/40/20, not {level}")
        return levels

    @field_validator("base")
    @classmethod
    def _bases(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        for level in levels:
            if not BASE_LEVEL.fullmatch(level):
                raise ValueError(f"a level is whole, every-K or scratch-every-K, not {level}")
        return levels

    @field_validator("*")
    @classmethod
    def _once(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if len(set(levels)) < len(levels):
            raise ValueError("a level is named once")
        return levels

    def levels(self) -> dict[str, tuple[Level, ...]]:
        """Of the factors that are named, in the order of their definition."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: levels for name, levels in named.items() if levels}


class Texts(BaseModel):
    """Plain texts whose perplexity is measured, one for each split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    val: Path
    test: Path


class Measure(BaseModel):
    """What every cell is measured on: the same radiographs, whatever it was trained on.

    Attributes:
        refinement: which radiographs, and how much of their reports.
        limit: radiographs at most, drawn at random; None for all.
        texts: for perplexity.
        text_tokens: how much of the text's beginning.
        text_window: tokens that the model sees at once.
        reports: radiographs that a report is written for, greedily; 0 for none.
        report_tokens: longest report.
        images: reports that a radiograph is drawn for; 0 for none.
        sampling: how they are drawn.
        judge: folder of the classifier that measures images; needed where there are any.
        least_positives: a finding with fewer gets no AUROC.
        batch_size: answers at once.
        resamples: of every bootstrap.
        folds: of every jackknife.
        seed: of `limit` and of drawing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    refinement: Refinement = Refinement()
    limit: int | None = Field(default=None, ge=2)
    texts: Texts
    text_tokens: int = Field(default=32_768, ge=2)
    text_window: int = Field(default=512, ge=2)
    reports: int = Field(default=100, ge=0)
    report_tokens: int = Field(default=96, ge=1)
    images: int = Field(default=0, ge=0)
    sampling: ImageSampling = ImageSampling()
    judge: Path | None = None
    least_positives: int = Field(default=10, ge=1)
    batch_size: int = Field(default=8, ge=1)
    resamples: int = Field(default=1000, ge=1)
    folds: int = Field(default=20, ge=2)
    seed: int = 0

    @model_validator(mode="after")
    def _has_a_judge(self) -> Measure:
        if self.images == 1 or (self.images and self.judge is None):
            raise ValueError("images are measured by two or more, and by a judge")
        return self


class Ablation(BaseModel):
    """A grid of training runs at equal compute.

    Attributes:
        factors: what is varied.
        seeds: every combination is run with each: of the examples, adapters and drawn weights.
        compute: of a cell in all, both stages together.
        refined: what "refined" means.
        finetune: settings of all cells, as in a configuration of `llmcxr-train finetune`.
        second_stage: those that a second stage has otherwise, for example its learning rate.
        vqgans: run folder of the VQ-GAN by number of image tokens.
        measure: what is measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: Factors
    seeds: tuple[int, ...] = Field(min_length=1)
    compute: Budget
    refined: Refinement = Refinement(first_study_only=True)
    finetune: dict[str, Any]
    second_stage: dict[str, Any] = {}
    vqgans: dict[str, Path] = {}
    measure: Measure

    @model_validator(mode="after")
    def _fits(self) -> Ablation:
        factors = self.factors
        if not factors.levels():
            raise ValueError("a grid has one factor at least")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is named once")
        if 2 in factors.stages and not any(factors.refined):
            raise ValueError("a second stage needs a level of refined above 0")
        if missing := [n for n in factors.image_tokens if str(n) not in self.vqgans]:
            raise ValueError(f"[vqgans] names none for image_tokens {missing[0]}")
        if factors.self_instruct and not self.finetune.get("self_instructions"):
            raise ValueError("self_instruct needs finetune.self_instructions")
        drawn = any(level.startswith("scratch") for level in factors.base)
        if drawn and self.finetune.get("lora", "absent") is not None:
            raise ValueError('drawn weights have all to be trained: finetune.lora = "none"')
        return self


def mixing_shares(level: str) -> tuple[int, int, int]:
    """Percentages of a level of `mixing`."""
    first, second, third = (int(part) for part in level.split("/"))
    return first, second, third
