"""What an evaluation was made of: the `settings` of `evaluation.json`. Names no path."""

from __future__ import annotations

from typing import Any

import torch

from llmcxr_models.checkpoint import Manifest
from llmcxr_training.evaluation.cohort import Cohort, trained_sections
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.run_state import git_state

JACKKNIFED = (
    "image.fd_judge*",
    "image.precision*",
    "image.recall*",
    "image.coverage*",
    "vqgan.codebook_*",
    "report.distinct",
    "report.real.distinct",
)
"""Figures that repetitions would distort; all others but perplexity are bootstrapped."""


def described(
    config: Evaluation, manifest: Manifest, cohort: Cohort, judge_digest: str, dtype: torch.dtype
) -> dict[str, Any]:
    """Everything that decides the figures, for people and for a repetition."""
    return {
        "checkpoint": manifest.digest,
        "checkpoint_name": f"{manifest.name} {manifest.version}",
        "judge": judge_digest,
        "split": config.split,
        "floor_split": cohort.floor_split,
        "views": list(manifest.views),
        "sections": trained_sections(manifest, config.sections),
        "limit": config.limit,
        "radiographs": len(cohort.measured),
        "patients": len({study.patient_id for study in cohort.measured.studies}),
        "train_radiographs": len(cohort.train),
        "floor_radiographs": len(cohort.floor),
        "marginal_images": min(config.marginal_images, len(cohort.train)),
        "seed": config.seed,
        "report": config.report.model_dump(mode="json"),
        "image": config.image.model_dump(mode="json"),
        "language": {
            "text": config.text.name,
            "window": config.language.window,
            "stride": config.language.stride,
            "max_tokens": config.language.max_tokens,
        },
        "intervals": {
            "bootstrap_by_patient": config.resamples,
            "jackknife_folds": config.folds,
            "jackknifed": list(JACKKNIFED),
            "perplexity": "bootstrap of blocks of 256 tokens",
        },
        "neighbours": config.neighbours,
        "least_positives": config.least_positives,
        "arithmetic": str(dtype).removeprefix("torch."),
        "git": git_state(),
    }
