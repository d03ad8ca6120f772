"""`llmcxr-train evaluate`: all parts one after the other, resumable; writes what they found.

metrics.json      {key: {value, low, high, n}}
evaluation.json   the same, with goals, diagnosis, settings, and what was not measured
evaluation.md     the tables of a model card
report.html       all of it in one file for people, with plots and pictures
tables.json       curves and per-finding counts behind the plots
cases.jsonl/.npz  radiograph by radiograph
work/             answers and image figures; a killed evaluation goes on from here
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.data import DataError, describe
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.card import EVALUATION_JSON, METRICS_JSON
from llmcxr_training.evaluation.cases import Cases
from llmcxr_training.evaluation.cohort import Cohort, open_cohort
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.described import described, described_material
from llmcxr_training.evaluation.diagnosis import diagnosed
from llmcxr_training.evaluation.diversity_part import ask_several, diversity_part
from llmcxr_training.evaluation.finding_part import ask_findings, finding_part
from llmcxr_training.evaluation.gallery_part import gallery_part
from llmcxr_training.evaluation.goals import judged
from llmcxr_training.evaluation.html_report import html_report
from llmcxr_training.evaluation.image_part import Generated, image_part
from llmcxr_training.evaluation.instruction_following import instruction_measures
from llmcxr_training.evaluation.language_measures import language_measures
from llmcxr_training.evaluation.markdown import markdown
from llmcxr_training.evaluation.picked_part import ask_candidates, picked_part
from llmcxr_training.evaluation.pictures import PictureLab, Reconstructions
from llmcxr_training.evaluation.prompts import fits, image_questions, report_questions
from llmcxr_training.evaluation.reconstruction_part import reconstruction_part
from llmcxr_training.evaluation.report_part import report_part
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.statements import ask_statements
from llmcxr_training.evaluation.suites import IMAGE_PARTS, Part, suite
from llmcxr_training.evaluation.unguided_part import ask_unguided, unguided_part
from llmcxr_training.precision import resolve_device, resolve_precision
from llmcxr_training.run_state import write_json

_log = logging.getLogger(__name__)

MARKDOWN = "evaluation.md"
HTML = "report.html"
TABLES_JSON = "tables.json"
WORK = "work"


def evaluate(
    checkpoint_path: Path, config: Evaluation, make_generator: Callable[[], Generator] | None = None
) -> dict[str, Any]:
    """Measure a checkpoint and write the results to `config.output`.

    Args:
        checkpoint_path: an assembled checkpoint directory.
        config: everything else.
        make_generator: starts the language model; vLLM by default.

    Returns:
        The content of `evaluation.json`.

    Raises:
        CheckpointError: checkpoint, judge or extractor cannot be used.
        DataError: data, texts or kept results cannot be used.
        BaseModelError: the base model cannot be loaded.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    config.output.mkdir(parents=True, exist_ok=True)
    # Pictures and texts of the data set follow: no `git add` takes them along.
    (config.output / ".gitignore").write_text("*\n", encoding="utf-8")
    write_json(config.output / "config.json", config.model_dump(mode="json"))
    run = EvaluationRun(config, Checkpoint.open(checkpoint_path))
    run.measure(make_generator or run.start_vllm)
    return run.write()


class EvaluationRun:
    """One evaluation: checkpoint, radiographs, judge, and what was found so far."""

    def __init__(self, config: Evaluation, checkpoint: Checkpoint) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.work = config.output / WORK
        self.work.mkdir(parents=True, exist_ok=True)
        chosen = suite(config.suite)
        self.parts = chosen.parts
        _check_files(config, self.parts)
        self.context = Context(config, chosen, checkpoint, self.work)
        self.material = self._open_material() if self.parts & IMAGE_PARTS else None
        self.seconds: dict[str, float] = {}

    def _open_material(self) -> Material:
        pixels = self.config.output.parent / "pixels"
        cohort = open_cohort(self.config, self.checkpoint.manifest, pixels)
        _log.info("measured: %s", describe(cohort.measured.studies))
        rows = self._askable(cohort)
        if len(rows) < 2:
            raise DataError("fewer than two radiographs have a report to compare with")
        self.context.cases.records[:] = Cases.of(cohort.measured.studies).records
        return Material(cohort, rows, PictureLab(self.config, self.checkpoint, self.work))

    def _askable(self, cohort: Cohort) -> list[int]:
        """Rows that have a report; those too long for the model are counted and listed."""
        builder, manifest = self.checkpoint.load_prompts(), self.checkpoint.manifest
        studies, reported = cohort.measured.studies, cohort.reported
        rows = [row for row in reported if fits(builder, studies[row], self.config, manifest)]
        if left_out := sorted({studies[row].id for row in set(reported) - set(rows)}):
            ids = ", ".join(left_out)
            _log.warning("%d reports are too long and are skipped: %s", len(left_out), ids)
        return rows

    def measure(self, make_generator: Callable[[], Generator]) -> None:
        """Everything, in an order in which no two large models are held at once."""
        images = None
        if self.material is not None:
            with self._timed("reconstructions"):
                images = reconstruction_part(self.context, self.material)
        self._language()
        if self.material is not None and images is not None:
            self._radiographs(self.material, images, functools.cache(make_generator))

    def _language(self) -> None:
        context = self.context
        where = (context.figures, self.config, self.checkpoint, self.work)
        if Part.LANGUAGE in self.parts:
            with self._timed("language"):
                context.cases.arrays["language.nll"] = language_measures(*where).nll
        if Part.INSTRUCTIONS in self.parts:
            with self._timed("instructions"):
                table = instruction_measures(*where)
            context.tables["instructions"] = table
            context.cases.arrays["instructions.passed"] = np.array([r["passed"] for r in table])

    def _radiographs(
        self, material: Material, images: Reconstructions, generator: Callable[[], Generator]
    ) -> None:
        """First everything that is asked, then everything that is measured."""
        context, parts = self.context, self.parts
        store = AnswerStore(self.work / f"answers-{self.checkpoint.manifest.digest[:12]}.jsonl")
        builder, config = self.checkpoint.load_prompts(), self.config
        if Part.REPORTS in parts:
            with self._timed("writing_reports"):
                codes = images.codes[material.rows]
                stated = ask_statements(self.checkpoint, codes, store, generator)
                asked = report_questions(builder, material.studies, codes, config, stated)
                reports = store.answer(asked, generator, what="reports")
        if Part.IMAGES in parts:
            with self._timed("drawing_images"):
                guidance = self.checkpoint.manifest.guidance
                asked = image_questions(builder, material.studies, config, guidance)
                drawn = store.answer(asked, generator, what="images")
                several = ask_several(context, material, store, generator)
                candidates = ask_candidates(context, material, store, generator)
                pairs = ask_unguided(context, material, store, generator)
        if Part.FINDINGS in parts:
            with self._timed("asking_findings"):
                answers = ask_findings(context, material, images, store, generator)
        written: list[str] | None = None
        generated: Generated | None = None
        if Part.REPORTS in parts:
            with self._timed("reports"):
                written = report_part(context, material, images, reports)
        if Part.FINDINGS in parts:
            with self._timed("findings"):
                finding_part(context, material, answers)
        if Part.IMAGES in parts:
            with self._timed("images"):
                generated = image_part(context, material, images, drawn)
                diversity_part(context, material, several)
                picked_part(context, material, candidates)
                unguided_part(context, material, pairs)
        with self._timed("pictures"):
            gallery_part(context, material, images, written, generated)

    def start_vllm(self) -> Generator:
        """The language model in this process."""
        from llmcxr_training.evaluation.vllm_generator import VllmGenerator

        return VllmGenerator(self.checkpoint, self.config.engine, self._dtype())

    def write(self) -> dict[str, Any]:
        """Write the files of results; returns the content of `evaluation.json`."""
        output, context = self.config.output, self.context
        values, metrics = context.figures.values, context.figures.to_dict()
        settings = described(self.config, self.checkpoint.manifest, self._dtype())
        if self.material is not None:
            settings |= described_material(context, self.material)
        evaluation = {
            "metrics": metrics,
            "goals": judged(values),
            "diagnosis": [check.to_dict() for check in diagnosed(values)],
            "not_measured": context.figures.not_measured,
            "settings": settings,
            "seconds": self.seconds,
        }
        context.cases.write(output)
        write_json(output / TABLES_JSON, context.tables)
        write_json(output / METRICS_JSON, metrics)
        write_json(output / EVALUATION_JSON, evaluation)
        (output / MARKDOWN).write_text(markdown(evaluation), encoding="utf-8")
        html = html_report(evaluation, context.tables, context.gallery)
        (output / HTML).write_text(html, encoding="utf-8")
        return evaluation

    def _dtype(self) -> torch.dtype:
        return resolve_precision(self.config.precision, resolve_device(self.config.device))

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - started, 1)
        _log.info("%s: %.0f s", part, self.seconds[part])


def _check_files(config: Evaluation, parts: frozenset[Part]) -> None:
    """Minutes before they are needed."""
    language = parts & {Part.LANGUAGE, Part.INSTRUCTIONS}
    for needed in (config.base, config.text) if language else ():
        if not needed.exists():
            raise DataError(f"there is no {needed}")
