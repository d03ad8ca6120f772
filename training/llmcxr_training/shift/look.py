"""What gate, judge, VQ-GAN and, where wanted, language model make of one set of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.gate import judge as verdict_of
from llmcxr_models.observations import observable_findings
from llmcxr_models.report import Report
from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.cohort import report_body
from llmcxr_training.evaluation.finding_answers import (
    finding_questions,
    label_targets,
    probabilities,
)
from llmcxr_training.evaluation.pictures import PictureLab, Reconstructions
from llmcxr_training.evaluation.prompts import report_questions
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.statements import ask_statements
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.targets import target_table

Flags = NDArray[np.bool_]
Table = NDArray[np.floating]
_AT_ONCE = 64


@dataclass(frozen=True)
class GateFlags:
    """What the gate says of each picture, (N,) each.

    Attributes:
        refused: it would be answered with 422.
        doubted: not refused, but answered with a warning.
        lateral: warned of as lateral, where the checkpoint takes frontal views alone.
    """

    refused: Flags
    doubted: Flags
    lateral: Flags

    @property
    def noticed(self) -> Flags:
        """Refused, or answered with any warning."""
        return self.refused | self.doubted | self.lateral


@dataclass(frozen=True)
class Look:
    """One set of pictures.

    Attributes:
        studies: of them; a patient's are drawn together in intervals.
        gate: None where the checkpoint has none.
        targets: (N, findings) present, absent or unknown, of the judge's findings.
        scores: (N, findings) of the judge.
        rows: pictures that went through the VQ-GAN.
        images: the same, with their reconstructions.
        finding_targets: (rows, taught findings); empty where the model was not asked.
        finding_scores: the same, probabilities of yes.
        written: reports of `rows`; empty where none were asked for.
    """

    studies: Sequence[Study]
    gate: GateFlags | None
    targets: Table
    scores: Table
    rows: list[int]
    images: Reconstructions
    finding_targets: Table = field(default_factory=lambda: np.empty((0, 0)))
    finding_scores: Table = field(default_factory=lambda: np.empty((0, 0)))
    written: tuple[str, ...] = ()

    @property
    def patients(self) -> list[str]:
        """Of each picture."""
        return [study.patient_id for study in self.studies]

    @property
    def real_reports(self) -> list[str]:
        """Of `rows`; empty where a radiograph came without."""
        return [report_body(self.studies[row].report) for row in self.rows]


class Observatory:
    """Everything that looks.

    Args:
        checkpoint: of which the gate, VQ-GAN and prompts are.
        lab: VQ-GAN and judge.
        config: sampling.
        store: kept answers.
        generator: starts the language model.
        ask_findings: whether it is asked about findings.
        ask_reports: whether it writes reports.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        lab: PictureLab,
        config: Evaluation,
        store: AnswerStore,
        generator: Callable[[], Generator],
        *,
        ask_findings: bool,
        ask_reports: bool,
    ) -> None:
        self._checkpoint = checkpoint
        self._gate = checkpoint.load_gate()
        self._lab = lab
        self._config = config
        self._store = store
        self._generator = generator
        self._ask_findings = ask_findings and bool(checkpoint.manifest.findings)
        self._ask_reports = ask_reports

    def look(self, cache: PixelCache, rows: list[int], name: str) -> Look:
        """Look at all pictures of `cache`; those of `rows` go through the VQ-GAN."""
        findings = self._lab.judge.config.findings
        part = PixelCache([cache.studies[row] for row in rows], cache.grey[rows])
        images = self._lab.reconstruct(part)
        return Look(
            cache.studies,
            self._flags(cache),
            target_table(cache.studies, findings),
            self._lab.look(cache, name).scores,
            rows,
            images,
            *self._findings(part.studies, images.codes, name),
            self._reports(part.studies, images.codes, name),
        )

    def _flags(self, cache: PixelCache) -> GateFlags | None:
        if self._gate is None:
            return None
        channels = self._checkpoint.manifest.vqgan.image_channels
        seen = []
        for first in range(0, len(cache), _AT_ONCE):
            rows = range(first, min(first + _AT_ONCE, len(cache)))
            seen.append(self._gate.probabilities(cache.batch(rows, channels)))
        verdicts = [verdict_of(row, self._gate.config) for row in torch.cat(seen)]
        lateral_is_fine = "lateral" in self._checkpoint.manifest.views
        return GateFlags(
            np.array([v.refused for v in verdicts]),
            np.array([v.doubtful and not v.refused for v in verdicts]),
            np.array([v.lateral and not lateral_is_fine for v in verdicts]),
        )

    def _findings(
        self, studies: Sequence[Study], codes: NDArray[np.uint16], name: str
    ) -> tuple[Table, Table]:
        if not self._ask_findings:
            return np.empty((0, 0)), np.empty((0, 0))
        names = self._checkpoint.manifest.findings
        builder = self._checkpoint.load_prompts()
        asked = finding_questions(builder, codes, observable_findings(names))
        answers = self._store.log_probabilities(asked, self._generator, what=f"{name}: findings")
        return label_targets(studies, names), probabilities(answers, len(names))

    def _reports(
        self, studies: Sequence[Study], codes: NDArray[np.uint16], name: str
    ) -> tuple[str, ...]:
        if not self._ask_reports:
            return ()
        builder = self._checkpoint.load_prompts()
        stated = ask_statements(self._checkpoint, codes, self._store, self._generator)
        asked = report_questions(builder, studies, codes, self._config, stated)
        answers = self._store.answer(asked, self._generator, what=f"{name}: reports")
        tokenizer = self._checkpoint.load_tokenizer()
        return tuple(report_body(Report.parse(tokenizer.decode(ids))) for ids in answers)
