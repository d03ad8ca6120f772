"""`image.finding_auroc_picked`: what prompts ask for, in images that the checkpoint's judge picks.

As the service does with `best_of`: several images of a report, of which the judge that the
checkpoint carries picks one. Another judge measures (docs/decisions/0013). Beside it stands the
first image of each of the same reports, so what differs is the choice alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llmcxr_models.picking import Picker
from llmcxr_training.evaluation.answers import AnswerStore, Generator
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.several_images import (
    Drawings,
    compare_findings,
    draw_several,
    whole_drawings,
)
from llmcxr_training.evaluation.telling_reports import telling_reports
from llmcxr_training.pixel_cache import model_pixels

KEY = "image.finding_auroc_picked"


def ask_candidates(
    context: Context,
    material: Material,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[Drawings]:
    """Several images of some reports; none where nothing is to be picked by."""
    config = context.config
    judge = context.checkpoint.manifest.judge
    if judge is None or not config.picked.prompts:
        return []
    chosen = telling_reports(material.studies, judge.findings, config.picked.prompts, config.seed)
    count, what = config.picked.best_of, "images to pick from"
    drawn = draw_several(context, chosen, count, store, generator, what=what)
    return whole_drawings(context, chosen, drawn)


def picked_part(context: Context, material: Material, candidates: Sequence[Drawings]) -> None:
    """Add the AUROC of picked and of first images in the measuring judge's eyes."""
    judge = context.checkpoint.load_judge()
    if judge is None or not candidates:
        why = "the checkpoint has no judge" if judge is None else "no report was asked for"
        context.figures.skip(KEY, why)
        return
    picker, best_of = Picker(judge), len(candidates[0].codes)
    grey = material.lab.pixels(np.concatenate([of.codes for of in candidates]))
    pixels = model_pixels(grey)
    best = [
        picker.pick(of.study.report.text, list(pixels[start : start + best_of])).best
        for of, start in zip(candidates, range(0, len(pixels), best_of), strict=True)
    ]
    sets = {
        "picked": np.array([of.codes[row] for of, row in zip(candidates, best, strict=True)]),
        "first": np.array([of.codes[0] for of in candidates]),
    }
    studies = [of.study for of in candidates]
    compare_findings(context, material, studies, sets, key=KEY, main="picked")
