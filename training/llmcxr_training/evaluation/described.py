"""What an evaluation was made of: the `settings` of `evaluation.json`. Names no path."""

from __future__ import annotations

from typing import Any

import torch

from llmcxr_models.checkpoint import Manifest
from llmcxr_training.evaluation.cases import digest_of
from llmcxr_training.evaluation.cohort import trained_sections
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.run_state import git_state

JACKKNIFED = (
    "image.precision*",
    "image.recall*",
    "image.coverage*",
    "image.density*",
    "image.fd_*",
    "image.kid_*",
    "image.ms_ssim_within_prompt.*",
    "findings.ece*",
    "vqgan.codebook_*",
    "report.distinct*",
    "report.real.distinct*",
)
"""Figures that repetitions would distort; all others but perplexity are bootstrapped."""


def described(config: Evaluation, manifest: Manifest, dtype: torch.dtype) -> dict[str, Any]:
    """Everything but the radiographs that decides the figures."""
    return {
        "checkpoint": manifest.digest,
        "checkpoint_name": f"{manifest.name} {manifest.version}",
        "suite": config.suite,
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
        "arithmetic": str(dtype).removeprefix("torch."),
        "git": git_state(),
    }


def described_material(context: Context, material: Material) -> dict[str, Any]:
    """Which radiographs were measured, and by what."""
    config, cohort = context.config, material.cohort
    manifest, extractor = context.checkpoint.manifest, material.lab.extractor
    return {
        "judge": material.lab.judge_digest,
        "extractor": None if extractor is None else [extractor.name, extractor.digest],
        "split": config.split,
        "floor_split": cohort.floor_split,
        "views": list(manifest.views),
        "sections": trained_sections(manifest, config.sections),
        "limit": config.limit,
        "cases": digest_of(material.studies),
        "radiographs": len(cohort.measured),
        "patients": len(set(material.measured_patients)),
        "asked_about": len(material.rows),
        "train_radiographs": len(cohort.train),
        "floor_radiographs": len(cohort.floor),
        "marginal_images": min(config.marginal_images, len(cohort.train)),
        "diversity": config.diversity.model_dump(mode="json"),
        "picked": config.picked.model_dump(mode="json"),
        "unguided_prompts": config.unguided_prompts,
        "neighbours": config.neighbours,
        "least_positives": context.least_positives,
    }
