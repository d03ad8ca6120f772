"""Chooses the pictures of an evaluation that people should see, and decodes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.gallery import Example, Pair, varied
from llmcxr_training.evaluation.image_part import Generated
from llmcxr_training.evaluation.pictures import Reconstructions


def gallery_part(
    context: Context,
    material: Material,
    images: Reconstructions,
    written: Sequence[str] | None,
    generated: Generated | None,
) -> None:
    """Fill the gallery; nothing where the settings want no pictures."""
    count = context.config.pictures
    if not count:
        context.gallery.several = []
        return
    context.gallery.examples = _examples(material, images, written, generated, count)
    if generated is not None:
        context.gallery.pairs = _pairs(material, generated, count)


def _examples(
    material: Material,
    images: Reconstructions,
    written: Sequence[str] | None,
    generated: Generated | None,
    count: int,
) -> list[Example]:
    chosen = varied(material.studies, count)
    rows = [material.rows[i] for i in chosen]
    again = material.lab.pixels(images.codes[rows])
    place = {} if generated is None else {i: n for n, i in enumerate(generated.asked)}
    drawn = {}
    if generated is not None and (some := [i for i in chosen if i in place]):
        pictures = material.lab.pixels(generated.codes[[place[i] for i in some]])
        drawn = dict(zip(some, pictures, strict=True))
    return [
        Example(
            prompt=material.studies[i].report.text,
            real=np.asarray(material.cohort.measured.grey[row]),
            reconstructed=again[number],
            generated=drawn.get(i),
            written=None if written is None else written[i],
        )
        for number, (i, row) in enumerate(zip(chosen, rows, strict=True))
    ]


def _pairs(material: Material, generated: Generated, count: int) -> list[Pair]:
    closest = generated.near.closest(count)
    pictures = material.lab.pixels(generated.codes[closest])
    train = material.cohort.train
    found = []
    for number, place in enumerate(closest):
        row = int(generated.near.rows[place])
        found.append(
            Pair(
                generated=pictures[number],
                train=np.asarray(train.grey[row]),
                distance=float(generated.near.distances[place]),
                prompt=material.studies[generated.asked[place]].report.text,
                train_report=train.studies[row].report.text,
            )
        )
    return found
