"""`image.finding_auroc_picked`: what prompts ask for, in images that the checkpoint's judge picks.

As the service does with `best_of`: several images of a report, of which the judge that the
checkpoint carries picks one. Another judge measures (docs/decisions/0013). Beside it stands the
first image of each of the same reports, so what differs is the choice alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.picking import Picker
from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import AnswerStore, Generator, TokenIds
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.image_measures import finding_measures
from llmcxr_training.evaluation.image_part import codes_of, prompt_targets
from llmcxr_training.evaluation.several_images import draw_several
from llmcxr_training.evaluation.telling_reports import telling_reports
from llmcxr_training.pixel_cache import model_pixels

KEY = "image.finding_auroc_picked"


@dataclass(frozen=True)
class Candidates:
    """The images of one prompt.

    Attributes:
        study: whose report it is.
        codes: (best_of, image_length).
    """

    study: Study
    codes: NDArray[np.uint16]


def ask_candidates(
    context: Context,
    material: Material,
    store: AnswerStore,
    generator: Callable[[], Generator],
) -> list[Candidates]:
    """Several images of some reports; none where nothing is to be picked by."""
    config = context.config
    judge = context.checkpoint.manifest.judge
    if judge is None or not config.picked.prompts:
        return []
    chosen = telling_reports(material.studies, judge.findings, config.picked.prompts, config.seed)
    count, what = config.picked.best_of, "images to pick from"
    drawn = draw_several(context, chosen, count, store, generator, what=what)
    return list(filter(None, map(_whole(context), chosen, drawn)))


def picked_part(context: Context, material: Material, candidates: Sequence[Candidates]) -> None:
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
    findings = material.lab.judge.config.findings
    finding_measures(
        context.figures,
        {name: material.lab.decode(codes, f"{name} images") for name, codes in sets.items()},
        prompt_targets([of.study for of in candidates], findings),
        findings,
        [of.study.patient_id for of in candidates],
        context.resampling,
        context.least_positives,
        key=KEY,
        main="picked",
    )


def _whole(context: Context) -> Callable[[Study, Sequence[TokenIds]], Candidates | None]:
    vocabulary = context.checkpoint.manifest.vocabulary

    def whole(study: Study, answers: Sequence[TokenIds]) -> Candidates | None:
        codes = [codes_of(vocabulary, token_ids) for token_ids in answers]
        if any(of is None for of in codes):
            return None
        return Candidates(study, np.array(codes, np.uint16))

    return whole
