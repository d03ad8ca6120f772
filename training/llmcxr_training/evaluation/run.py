"""`llmcxr-train evaluate`: all parts one after the other, resumable; writes what they found.

metrics.json      {key: {value, low, high, n}}
evaluation.json   the same, with goals, settings, and what was not measured
evaluation.md     the tables of a model card
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
from numpy.typing import NDArray

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.report import Report
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_training import baselines
from llmcxr_training.data import DataError, Study, describe
from llmcxr_training.evaluation.answers import AnswerStore, Generator, TokenIds
from llmcxr_training.evaluation.card import EVALUATION_JSON, METRICS_JSON
from llmcxr_training.evaluation.cohort import Cohort, open_cohort, report_body
from llmcxr_training.evaluation.described import described
from llmcxr_training.evaluation.figures import Figures, Resampling
from llmcxr_training.evaluation.goals import judged
from llmcxr_training.evaluation.image_measures import (
    Distances,
    Pictures,
    distance_measures,
    finding_measures,
)
from llmcxr_training.evaluation.language_measures import language_measures
from llmcxr_training.evaluation.marginals import from_marginals, from_position_marginals
from llmcxr_training.evaluation.markdown import markdown
from llmcxr_training.evaluation.pictures import PictureLab, Reconstructions
from llmcxr_training.evaluation.prompts import fits, image_questions, report_questions
from llmcxr_training.evaluation.report_measures import report_measures
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.evaluation.vqgan_measures import judge_measures, vqgan_measures
from llmcxr_training.metrics.intervals import bootstrap_mean
from llmcxr_training.precision import resolve_device, resolve_precision
from llmcxr_training.run_state import write_json
from llmcxr_training.targets import target_table, targets

_log = logging.getLogger(__name__)

MARKDOWN = "evaluation.md"
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
        CheckpointError: checkpoint or judge cannot be used.
        DataError: data, texts or kept results cannot be used.
        BaseModelError: the base model cannot be loaded.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    config.output.mkdir(parents=True, exist_ok=True)
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
        # Minutes before they are needed.
        for needed in (config.base, config.text):
            if not needed.exists():
                raise DataError(f"there is no {needed}")
        pixels = config.output.parent / "pixels"
        self.cohort: Cohort = open_cohort(config, checkpoint.manifest, pixels)
        _log.info("measured: %s", describe(self.cohort.measured.studies))
        self.rows = self._askable()
        if len(self.rows) < 2:
            raise DataError("fewer than two radiographs have a report to compare with")
        self.studies = [self.cohort.measured.studies[row] for row in self.rows]
        self.patients = [study.patient_id for study in self.studies]
        self.lab = PictureLab(config, checkpoint, self.work)
        self.resampling = Resampling(config.resamples, config.folds)
        self.figures = Figures()
        self.seconds: dict[str, float] = {}

    def _askable(self) -> list[int]:
        """Rows that have a report; those too long for the model are counted and listed."""
        builder, length = self.checkpoint.load_prompts(), self.checkpoint.manifest.max_model_len
        studies, reported = self.cohort.measured.studies, self.cohort.reported
        rows = [row for row in reported if fits(builder, studies[row], self.config, length)]
        if left_out := sorted({studies[row].id for row in set(reported) - set(rows)}):
            ids = ", ".join(left_out)
            _log.warning("%d reports are too long and are skipped: %s", len(left_out), ids)
        return rows

    def measure(self, make_generator: Callable[[], Generator]) -> None:
        """Everything, in an order in which no two large models are held at once."""
        with self._timed("reconstructions"):
            images = self._reconstructions()
        with self._timed("language"):
            language_measures(self.figures, self.config, self.checkpoint, self.work)
        store = AnswerStore(self.work / f"answers-{self.checkpoint.manifest.digest[:12]}.jsonl")
        generator = functools.cache(make_generator)
        builder, config = self.checkpoint.load_prompts(), self.config
        with self._timed("writing_reports"):
            asked = report_questions(builder, self.studies, images.codes[self.rows], config)
            reports = store.answer(asked, generator, what="reports")
        with self._timed("drawing_images"):
            asked = image_questions(builder, self.studies, config)
            drawn = store.answer(asked, generator, what="images")
        with self._timed("reports"):
            self._reports(images, reports)
        with self._timed("images"):
            self._images(images, drawn)

    def start_vllm(self) -> Generator:
        """The language model in this process."""
        from llmcxr_training.evaluation.vllm_generator import VllmGenerator

        return VllmGenerator(self.checkpoint, self.config.engine, self._dtype())

    def write(self) -> dict[str, Any]:
        """Write the three files of results; returns the content of `evaluation.json`."""
        output, metrics = self.config.output, self.figures.to_dict()
        manifest, judge = self.checkpoint.manifest, self.lab.judge_digest
        settings = described(self.config, manifest, self.cohort, judge, self._dtype())
        settings["asked_about"] = len(self.rows)
        evaluation = {
            "metrics": metrics,
            "goals": judged(self.figures.values),
            "not_measured": self.figures.not_measured,
            "settings": settings,
            "seconds": self.seconds,
        }
        write_json(output / METRICS_JSON, metrics)
        write_json(output / EVALUATION_JSON, evaluation)
        (output / MARKDOWN).write_text(markdown(evaluation), encoding="utf-8")
        return evaluation

    def _reconstructions(self) -> Reconstructions:
        measured, config = self.cohort.measured, self.config
        images = self.lab.reconstruct(measured)
        patients = [study.patient_id for study in measured.studies]
        codebook_size = self.checkpoint.manifest.vocabulary.codebook_size
        findings = self.lab.judge.config.findings
        vqgan_measures(self.figures, images, patients, codebook_size, self.resampling)
        judge_measures(
            self.figures,
            images,
            target_table(measured.studies, findings),
            findings,
            patients,
            self.resampling,
            config.least_positives,
        )
        return images

    def _reports(self, images: Reconstructions, answers: list[TokenIds]) -> None:
        tokenizer = self.checkpoint.load_tokenizer()
        written = [report_body(Report.parse(tokenizer.decode(ids))) for ids in answers]
        real = [report_body(study.report) for study in self.studies]
        report_measures(
            self.figures,
            written,
            real,
            self._baseline_reports(images, real),
            self.patients,
            self.resampling,
            self.config.least_positives,
        )

    def _baseline_reports(self, images: Reconstructions, real: list[str]) -> dict[str, list[str]]:
        train = self.cohort.train
        features = self.lab.look(train, "training radiographs").features
        rows = [i for i, study in enumerate(train.studies) if not study.report.is_empty]
        reports = [report_body(train.studies[i].report) for i in rows]
        ours = images.real.rows(self.rows).features
        return {
            "constant": baselines.constant(reports, len(real)),
            "shuffled": baselines.shuffled(real, self.patients, seed=self.config.seed),
            "nearest_neighbour": baselines.nearest_neighbour(ours, features[rows], reports),
        }

    def _images(self, images: Reconstructions, answers: list[TokenIds]) -> None:
        vocabulary = self.checkpoint.manifest.vocabulary
        drawn = [_codes(vocabulary, ids) for ids in answers]
        wrong = bootstrap_mean(
            [float(codes is None) for codes in drawn],
            groups=self.patients,
            resamples=self.config.resamples,
        )
        self.figures.add("image.wrong_length_rate", wrong)
        whole = [i for i, codes in enumerate(drawn) if codes is not None]
        if len(whole) < 2:
            self.figures.skip("image.fd_judge", "hardly an image has the right length")
            return
        codes = np.array([drawn[i] for i in whole], np.uint16)
        generated = self.lab.decode(codes, "generated images")
        rows = [self.rows[i] for i in whole]
        patients = [self.patients[i] for i in whole]
        real, again = images.real.rows(rows), images.reconstructed.rows(rows)
        sets = {
            "generated": Pictures(generated, patients),
            "reconstructions": Pictures(again, patients),
            "floor": self._floor(),
            **self._marginals(len(whole)),
        }
        distances = Distances(self.resampling, self.config.neighbours)
        distance_measures(self.figures, Pictures(real, patients), sets, distances)
        findings = self.lab.judge.config.findings
        finding_measures(
            self.figures,
            {"generated": generated, "real": real, "reconstructions": again},
            _prompt_targets([self.studies[i] for i in whole], findings),
            findings,
            patients,
            self.resampling,
            self.config.least_positives,
        )

    def _floor(self) -> Pictures:
        floor = self.cohort.floor
        seen = self.lab.look(floor, "other real radiographs")
        return Pictures(seen, [study.patient_id for study in floor.studies])

    def _marginals(self, count: int) -> dict[str, Pictures]:
        train, config = self.cohort.train, self.config
        rng = np.random.default_rng(config.seed)
        chosen = rng.permutation(len(train))[: config.marginal_images]
        codes = self.lab.encode(train, sorted(chosen.tolist()))
        # Nobody's: every image is drawn for itself.
        return {
            name: Pictures(
                self.lab.decode(draw(codes, count, config.seed), name),
                [(name, number) for number in range(count)],
            )
            for name, draw in (
                ("marginals", from_marginals),
                ("position_marginals", from_position_marginals),
            )
        }

    def _dtype(self) -> torch.dtype:
        return resolve_precision(self.config.precision, resolve_device(self.config.device))

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - started, 1)
        _log.info("%s: %.0f s", part, self.seconds[part])


def _codes(vocabulary: Vocabulary, token_ids: TokenIds) -> list[int] | None:
    try:
        return vocabulary.to_codes(token_ids)
    except InvalidImageTokens:
        return None


def _prompt_targets(studies: list[Study], findings: tuple[str, ...]) -> NDArray[np.float32]:
    """What each prompt affirms, (N, findings); what only the index knows was never asked for."""
    rows = [targets(study.report.text, ()) for study in studies]
    return np.array([[row[finding] for finding in findings] for row in rows], np.float32)
