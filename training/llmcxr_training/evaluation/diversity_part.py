"""`image.ms_ssim_within_prompt`: how alike several images of one prompt are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator, TokenIds
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.image_part import codes_of
from llmcxr_training.evaluation.pictures import LEAST_MS_SSIM_SIDE
from llmcxr_training.evaluation.several_images import draw_several
from llmcxr_training.metrics.diversity import ms_ssim_within, pairwise_ms_ssim
from llmcxr_training.metrics.intervals import Interval, bootstrap_mean, jackknife
from llmcxr_training.pixel_cache import model_pixels

KEY = "image.ms_ssim_within_prompt"
Groups = list[tuple[Study, NDArray[np.uint8]]]
"""A prompt's study and its images (K, S, S)."""


def ask_several(
    context: Context,
    material: Material,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[tuple[Study, list[TokenIds]]]:
    """Some prompts with several images each; none where they could not be compared."""
    chosen = _chosen(context, material)
    count = context.config.diversity.images
    drawn = draw_several(context, chosen, count, store, generator, what="several images")
    return list(zip(chosen, drawn, strict=True))


def diversity_part(
    context: Context, material: Material, answers: Sequence[tuple[Study, list[TokenIds]]]
) -> None:
    """Add MS-SSIM within prompts, between prompts, and between real images."""
    groups = _pictures(context, material, answers)
    if len(groups) < 2:
        context.figures.skip(KEY, "the images are too small, or too few were asked for")
        return
    within = ms_ssim_within([model_pixels(images) for _, images in groups])
    patients = [study.patient_id for study, _ in groups]
    resamples = context.resampling.resamples
    context.figures.add_share(KEY, bootstrap_mean(within, groups=patients, resamples=resamples))
    first = np.stack([images[0] for _, images in groups])
    context.figures.add_share(f"{KEY}.between_prompts", _between(first, context))
    measured = material.cohort.measured
    rows = _first_of_each([study.patient_id for study in measured.studies])[: len(groups)]
    real = np.stack([measured.grey[row] for row in rows])
    context.figures.add_share(f"{KEY}.real", _between(real, context))
    context.gallery.several = [(study.report.text, list(images)) for study, images in groups]


def _chosen(context: Context, material: Material) -> list[Study]:
    """One study of each patient, at most so many as are wanted."""
    wanted = context.config.diversity.prompts
    if context.checkpoint.manifest.preprocessing.image_size < LEAST_MS_SSIM_SIDE:
        return []
    rows = _first_of_each(material.patients)
    rng = random.Random(context.config.seed)  # noqa: S311  a sample, no secret
    return [material.studies[row] for row in sorted(rng.sample(rows, min(wanted, len(rows))))]


def _first_of_each(patients: Sequence[str]) -> list[int]:
    return sorted({patient: row for row, patient in reversed(list(enumerate(patients)))}.values())


def _pictures(
    context: Context, material: Material, answers: Sequence[tuple[Study, list[TokenIds]]]
) -> Groups:
    """Decoded; prompts with fewer than two whole images are left out."""
    vocabulary = context.checkpoint.manifest.vocabulary
    whole = [(study, [codes_of(vocabulary, ids) for ids in of]) for study, of in answers]
    kept = [(study, [codes for codes in of if codes is not None]) for study, of in whole]
    kept = [(study, codes) for study, codes in kept if len(codes) > 1]
    if not kept:
        return []
    flat = np.array([codes for _, of in kept for codes in of], np.uint16)
    pictures = material.lab.pixels(flat)
    ends = np.cumsum([len(of) for _, of in kept])[:-1]
    parts = np.split(pictures, ends)
    return [(study, part) for (study, _), part in zip(kept, parts, strict=True)]


def _between(images: NDArray[np.uint8], context: Context) -> Interval:
    """Over all pairs of images of different prompts, or patients; a repetition would be itself."""
    pixels = model_pixels(images)
    count = len(images)
    if count < 3:
        value = pairwise_ms_ssim(pixels)
        return Interval(value, float("nan"), float("nan"), count)
    return jackknife(
        lambda rows: pairwise_ms_ssim(pixels[torch.from_numpy(rows)]),
        count,
        folds=context.resampling.folds,
    )
