"""`llmcxr-train shift`: one set of pictures after the other, resumable; writes what they found.

shift.json   {metrics: {key: {value, low, high, n}}}, sets, what was not measured, settings
shift.md     the table
work/        what was computed; a killed measurement goes on from here
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.data import Study
from llmcxr_training.datasets import Data, JsonlData
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.cohort import Cohort, open_cohort
from llmcxr_training.evaluation.figures import Figures
from llmcxr_training.evaluation.pictures import PictureLab
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.pixel_cache import PixelCache
from llmcxr_training.precision import resolve_device, resolve_precision
from llmcxr_training.run_state import git_state, write_json
from llmcxr_training.shift.look import Look, Observatory
from llmcxr_training.shift.markdown import markdown
from llmcxr_training.shift.measures import (
    gate_measures,
    paired_measures,
    plain_measures,
    unpaired_measures,
)
from llmcxr_training.shift.settings import DomainShift
from llmcxr_training.shift.simulated import Shift, chosen_shifts, shifted

_log = logging.getLogger(__name__)

SHIFT_JSON, SHIFT_MARKDOWN = "shift.json", "shift.md"
UNCHANGED = "unchanged"


def measure_shift(
    checkpoint_path: Path,
    config: DomainShift,
    evaluation: Evaluation,
    make_generator: Callable[[], Generator] | None = None,
) -> dict[str, Any]:
    """Measure and write the results to `config.output`.

    Args:
        checkpoint_path: an assembled checkpoint directory.
        config: which shifts and sources.
        evaluation: whose radiographs, and by which judge.
        make_generator: starts the language model; vLLM by default. Not called unless asked.

    Returns:
        The content of `shift.json`.

    Raises:
        CheckpointError: checkpoint or judge cannot be used.
        DataError: data or kept results cannot be used.
    """
    if evaluation.threads:
        torch.set_num_threads(evaluation.threads)
    shifts = chosen_shifts(config.shifts)
    checkpoint = Checkpoint.open(checkpoint_path)
    run = ShiftRun(config, evaluation, checkpoint, make_generator)
    run.measure(shifts)
    return run.write()


class ShiftRun:
    """One measurement: the pictures as they are, and what was found of changed and other ones."""

    def __init__(
        self,
        config: DomainShift,
        evaluation: Evaluation,
        checkpoint: Checkpoint,
        make_generator: Callable[[], Generator] | None,
    ) -> None:
        self._config = config
        self._evaluation = evaluation
        self._checkpoint = checkpoint
        self._pixels = config.output.parent / "pixels"
        work = config.output / "work"
        work.mkdir(parents=True, exist_ok=True)
        self._cohort: Cohort = open_cohort(evaluation, checkpoint.manifest, self._pixels)
        self._lab = PictureLab(evaluation, checkpoint, work)
        self._observatory = Observatory(
            checkpoint,
            self._lab,
            evaluation,
            AnswerStore(work / f"answers-{checkpoint.manifest.digest[:12]}.jsonl"),
            functools.cache(make_generator or self._start_vllm),
            ask_findings=config.findings,
            ask_reports=config.reports,
        )
        self._figures = Figures()
        self._sets: list[dict[str, Any]] = []

    def measure(self, shifts: list[Shift]) -> None:
        """Unchanged first, then each shift, then each source; written as it grows."""
        measured = self._cohort.measured
        rows = self._rows(len(measured))
        findings = self._lab.judge.config.findings
        least, resamples = self._evaluation.least_positives, self._evaluation.resamples
        before = self._look(UNCHANGED, "as they are", measured, rows)
        plain_measures(self._figures, UNCHANGED, before, findings, least, resamples)
        for shift in shifts:
            changed = shifted(measured, shift, self._evaluation.seed)
            after = self._look(shift.name, shift.text, changed, rows)
            paired_measures(self._figures, shift.name, after, before, findings, least, resamples)
            self.write()
        for name, text, cache in self._sources():
            other = self._look(name, text, cache, self._rows(len(cache)))
            unpaired_measures(self._figures, name, other, before, findings, least, resamples)
            self.write()

    def write(self) -> dict[str, Any]:
        """Write both files; returns the content of `shift.json`."""
        manifest, evaluation = self._checkpoint.manifest, self._evaluation
        found = {
            "metrics": self._figures.to_dict(),
            "sets": self._sets,
            "not_measured": self._figures.not_measured,
            "settings": {
                "checkpoint": manifest.digest,
                "checkpoint_name": f"{manifest.name} {manifest.version}",
                "judge": self._lab.judge_digest,
                "split": evaluation.split,
                "limit": evaluation.limit,
                "seed": evaluation.seed,
                "resamples": evaluation.resamples,
                "least_positives": evaluation.least_positives,
                "reconstructions": self._config.reconstructions,
                "git": git_state(),
            },
        }
        write_json(self._config.output / SHIFT_JSON, found)
        path = self._config.output / SHIFT_MARKDOWN
        path.write_text(markdown(found), encoding="utf-8")
        return found

    def _look(self, name: str, text: str, cache: PixelCache, rows: list[int]) -> Look:
        _log.info("%s: %d pictures", name, len(cache))
        found = self._observatory.look(cache, rows, name)
        gate_measures(self._figures, name, found, self._evaluation.resamples)
        self._sets.append(
            {"name": name, "text": text, "pictures": len(cache), "reconstructed": len(rows)}
        )
        return found

    def _rows(self, count: int) -> list[int]:
        """Which go through the VQ-GAN: the same of every shift."""
        limit = self._config.reconstructions
        if limit is None or limit >= count:
            return list(range(count))
        rng = random.Random(self._evaluation.seed)  # noqa: S311  a sample, no secret
        return sorted(rng.sample(range(count), limit))

    def _sources(self) -> Iterator[tuple[str, str, PixelCache]]:
        """The same hospital's laterals where they are new to the model; other collections."""
        manifest = self._checkpoint.manifest
        split = self._evaluation.split
        if "lateral" not in manifest.views:
            studies = self._evaluation.data.studies((split,))
            if lateral := [study for study in studies if not study.is_frontal]:
                yield "lateral", "the same hospital's lateral views", self._cache(lateral)
        if self._config.others is None:
            return
        for collection, studies in _by_collection(self._config.others):
            frontal = [study for study in studies if study.is_frontal]
            if len(frontal) >= 2:
                yield collection, f"{collection}, frontal views", self._cache(frontal)

    def _cache(self, studies: list[Study]) -> PixelCache:
        return PixelCache.open(studies, self._checkpoint.manifest.preprocessing, self._pixels)

    def _start_vllm(self) -> Generator:
        from llmcxr_training.evaluation.vllm_generator import VllmGenerator

        evaluation = self._evaluation
        dtype = resolve_precision(evaluation.precision, resolve_device(evaluation.device))
        return VllmGenerator(self._checkpoint, evaluation.engine, dtype)


def _by_collection(data: Data) -> Iterator[tuple[str, list[Study]]]:
    """Each named collection of a manifest; otherwise the whole, under its own name."""
    if isinstance(data, JsonlData) and data.collections:
        for name in data.collections:
            yield name, data.model_copy(update={"collections": (name,)}).studies(("shift",))
    else:
        yield data.collection_names[0], data.studies(("shift",))
