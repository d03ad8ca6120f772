"""A finished evaluation as candidates of a reader study: nothing is asked again, nothing made up.

Radiographs, reports, and the model's answers are those whose figures were published; only the
chosen pictures are decoded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.preprocess import to_grey8
from llmcxr_models.report import Report
from llmcxr_training.evaluation.answers import AnswerStore, Generator, Question, TokenIds
from llmcxr_training.evaluation.card import EVALUATION_JSON
from llmcxr_training.evaluation.cohort import open_cohort
from llmcxr_training.evaluation.pictures import PictureLab
from llmcxr_training.evaluation.prompts import fits, image_questions, report_questions
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.statements import ask_statements
from llmcxr_training.reader_study.prepare import Candidate, Grey
from llmcxr_training.reader_study.study import StudyError

_WORK, _CONFIG = "work", "config.json"
_COPIED = ("checkpoint", "checkpoint_name", "split", "views", "sections", "report", "image", "seed")


class FinishedEvaluation:
    """An evaluation whose answers are all there.

    Attributes:
        provenance: which checkpoint, which split, how answers were drawn.
    """

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, config: Evaluation, settings: dict[str, Any]
    ) -> None:
        self._checkpoint = checkpoint
        self._folder = folder
        self._config = config
        self.provenance = {"evaluation": {k: settings[k] for k in _COPIED if k in settings}}

    @classmethod
    def open(cls, checkpoint_path: Path, folder: Path) -> FinishedEvaluation:
        """Read what `llmcxr-train evaluate` left.

        Raises:
            StudyError: no finished evaluation, or one of another checkpoint.
            CheckpointError: the checkpoint cannot be used.
        """
        try:
            settings = json.loads((folder / EVALUATION_JSON).read_text(encoding="utf-8"))[
                "settings"
            ]
            config = Evaluation.model_validate_json((folder / _CONFIG).read_bytes())
            measured = settings["checkpoint"]
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise StudyError(f"{folder} holds no finished evaluation") from error
        checkpoint = Checkpoint.open(checkpoint_path)
        if checkpoint.manifest.digest != measured:
            raise StudyError("the evaluation is of another checkpoint")
        # It may have been moved since.
        here = config.model_copy(update={"output": folder})
        return cls(checkpoint, folder, here, settings)

    def candidates(self) -> list[Candidate]:
        """Each radiograph of the evaluation that has a report, with both answers.

        Raises:
            StudyError: answers are missing.
            DataError: data or kept results cannot be used.
        """
        checkpoint, config = self._checkpoint, self._config
        cohort = open_cohort(config, checkpoint.manifest, self._folder.parent / "pixels")
        builder, manifest = checkpoint.load_prompts(), checkpoint.manifest
        measured = cohort.measured
        rows = [r for r in cohort.reported if fits(builder, measured.studies[r], config, manifest)]
        studies = [measured.studies[row] for row in rows]
        lab = PictureLab(config, checkpoint, self._folder / _WORK)
        codes = lab.reconstruct(measured).codes[rows]
        stated = ask_statements(checkpoint, codes, self._store(), _nobody)
        written = self._answers(report_questions(builder, studies, codes, config, stated))
        drawn = self._answers(
            image_questions(builder, studies, config, checkpoint.manifest.guidance)
        )
        tokenizer = checkpoint.load_tokenizer()
        return [
            Candidate(
                study.id,
                study.patient_id,
                measured.grey[row],
                self._picture(lab, answer),
                study.report,
                Report.parse(tokenizer.decode(report)),
            )
            for row, study, report, answer in zip(rows, studies, written, drawn, strict=True)
        ]

    def _answers(self, questions: Sequence[Question]) -> list[TokenIds]:
        return self._store().answer(questions, _nobody)

    def _store(self) -> AnswerStore:
        name = f"answers-{self._checkpoint.manifest.digest[:12]}.jsonl"
        return AnswerStore(self._folder / _WORK / name)

    def _picture(self, lab: PictureLab, answer: TokenIds) -> functools.partial[Grey] | None:
        try:
            codes = self._checkpoint.manifest.vocabulary.to_codes(answer)
        except InvalidImageTokens:
            return None
        return functools.partial(_decode, lab, codes)


def _nobody() -> Generator:
    raise StudyError("answers of the evaluation are missing; evaluate first")


def _decode(lab: PictureLab, codes: Sequence[int]) -> Grey:
    return to_grey8(lab.tokenizer.decode(torch.tensor([list(codes)]))[0])
