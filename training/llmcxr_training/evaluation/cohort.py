"""Whose radiographs an evaluation looks at: the measured split, and what it is compared with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from llmcxr_models.checkpoint import Manifest
from llmcxr_models.report import Report
from llmcxr_training.data import DataError, Study
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.suites import suite
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.refinement import Refinement, View, refine

Sections = Literal["both", "impression"]


@dataclass(frozen=True)
class Cohort:
    """Radiographs that can be read, of the views and with the sections of the checkpoint.

    Attributes:
        measured: of the split that is measured; without a limit all of it.
        train: of the train split, for baselines.
        floor: real radiographs beside the measured ones: `val` beside `test`; a part of `train`
            beside `val`, since nobody looks at `test` while developing.
        floor_split: where `floor` is from.
    """

    measured: PixelCache
    train: PixelCache
    floor: PixelCache
    floor_split: str

    @property
    def reported(self) -> list[int]:
        """Rows of `measured` that have a report."""
        return [i for i, study in enumerate(self.measured.studies) if not study.report.is_empty]


def trained_sections(manifest: Manifest, wanted: Sections | None) -> Sections:
    """The sections of a report that the checkpoint writes: as asked, or as it was trained."""
    if wanted is not None:
        return wanted
    training = manifest.provenance.get("finetuning") or {}
    known = (training.get("refinement") or {}).get("sections", "both")
    return cast(Sections, known) if known in get_args(Sections) else "both"


def open_cohort(config: Evaluation, manifest: Manifest, pixels: Path) -> Cohort:
    """Read the data set and its pictures.

    Raises:
        DataError: the data set cannot be used, or a split has nothing for this checkpoint.
    """
    splits = dict.fromkeys(("train", "val", config.split))
    studies = config.data.studies(splits)
    sections = trained_sections(manifest, config.sections)
    views = tuple(view for view in get_args(View) if view in manifest.views)
    if not views:
        raise DataError("the checkpoint names no view that a data set knows")
    plain = refine(studies, Refinement(views=views))
    kept = [_with_sections(study, sections) for study in plain]
    measured = suite(config.suite).chosen(_of(kept, config.split), config.seed)
    if len(measured) < 2:
        raise DataError(f"the {config.split} split has fewer than two radiographs for this suite")
    measured = _drawn(measured, config.limit, config.seed)
    train = _of(kept, "train")
    floor_split = "val" if config.split == "test" else "train"
    floor = _of(kept, "val") if config.split == "test" else train
    floor = _drawn(floor, len(measured), config.seed)

    def cache(studies: Sequence[Study]) -> PixelCache:
        return PixelCache.open(studies, manifest.preprocessing, pixels)

    return Cohort(cache(measured), cache(train), cache(floor), floor_split)


def report_body(report: Report) -> str:
    """Findings and impression without their names, which every report has alike."""
    return " ".join(part for part in (report.findings, report.impression) if part)


def _of(studies: Sequence[Study], split: str) -> list[Study]:
    chosen = [study for study in studies if study.split == split]
    if len(chosen) < 2:
        raise DataError(f"the {split} split has fewer than two radiographs for this checkpoint")
    return chosen


def _drawn(studies: Sequence[Study], limit: int | None, seed: int) -> list[Study]:
    if limit is None or limit >= len(studies):
        return list(studies)
    rng = random.Random(seed)  # noqa: S311  a sample, no secret
    return [studies[i] for i in sorted(rng.sample(range(len(studies)), limit))]


def _with_sections(study: Study, sections: Sections) -> Study:
    """A study without the wanted section stays: its image can still be reconstructed."""
    if sections == "both":
        return study
    return replace(study, report=Report(impression=study.report.impression))
