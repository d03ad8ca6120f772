"""What the parts of an evaluation share: settings, material, and what was found so far."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.data import Study
from llmcxr_training.evaluation.cases import Cases
from llmcxr_training.evaluation.cohort import Cohort
from llmcxr_training.evaluation.figures import Figures, Resampling
from llmcxr_training.evaluation.gallery import Gallery
from llmcxr_training.evaluation.pictures import PictureLab
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.suites import Suite


@dataclass(frozen=True)
class Context:
    """One evaluation.

    Attributes:
        config: its settings.
        suite: what is measured.
        checkpoint: of what.
        work: folder of kept answers and images.
        figures: found so far.
        tables: for plots and per-finding tables, by name; plain values.
        cases: by radiograph.
        gallery: pictures for people.
    """

    config: Evaluation
    suite: Suite
    checkpoint: Checkpoint
    work: Path
    figures: Figures = field(default_factory=Figures)
    tables: dict[str, Any] = field(default_factory=dict)
    cases: Cases = field(default_factory=Cases)
    gallery: Gallery = field(default_factory=Gallery)

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.config.resamples, self.config.folds)

    @property
    def least_positives(self) -> int:
        """A finding with fewer gets no figure of its own."""
        return self.suite.least_positives or self.config.least_positives


@dataclass(frozen=True)
class Material:
    """Radiographs, and what looks at them.

    Attributes:
        cohort: measured, training and other radiographs.
        rows: of the measured ones, those with a report that the model is asked about.
        lab: VQ-GAN, judge, extractor.
    """

    cohort: Cohort
    rows: list[int]
    lab: PictureLab

    @functools.cached_property
    def studies(self) -> list[Study]:
        """Those that are asked about."""
        return [self.cohort.measured.studies[row] for row in self.rows]

    @functools.cached_property
    def patients(self) -> list[str]:
        """Their patients."""
        return [study.patient_id for study in self.studies]

    @functools.cached_property
    def measured_patients(self) -> list[str]:
        """Those of all measured radiographs."""
        return [study.patient_id for study in self.cohort.measured.studies]
