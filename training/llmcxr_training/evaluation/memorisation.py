"""`image.nearest_train.*`: how near generated radiographs come to training ones.

A generator that copies is near to a training image nearly always; an image that it has never
seen, for example a real one of an unseen patient, is near to one now and then. So real unseen
images are the measure: `rate` is the share of generated images that are nearer to a training
image than all but 5 % of the unseen ones are. 0.05 is what chance gives (cf. the nearest-neighbour
tests of arXiv 1511.01844 and arXiv 2202.07646).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.evaluation.figures import Figures, Patients, Resampling
from llmcxr_training.metrics.distribution import (
    Features,
    nearest,
    nearest_distance,
    standardised,
)
from llmcxr_training.metrics.intervals import Indices, bootstrap, bootstrap_mean

SHARE = 0.05
"""Of unseen real images that are called near."""

KEY = "image.nearest_train"


@dataclass(frozen=True)
class Neighbours:
    """The nearest training image of each of some images.

    Attributes:
        rows: of the training images, (N,).
        distances: to them, (N,), in standard deviations of the training images' features.
    """

    rows: NDArray[np.intp]
    distances: NDArray[np.float64]

    def closest(self, count: int) -> list[int]:
        """The images that are nearest to a training image, nearest first."""
        return [int(row) for row in np.argsort(self.distances, kind="stable")[:count]]


def neighbours(images: Features, train: Features) -> Neighbours:
    """Nearest of `train` (M, D) to each of `images` (N, D), each feature with the same say."""
    ours, theirs = standardised(images, train), standardised(train, train)
    return Neighbours(nearest(ours, theirs), nearest_distance(ours, theirs))


def memorisation_measures(
    figures: Figures,
    generated: Neighbours,
    unseen: Neighbours,
    patients: Patients,
    unseen_patients: Patients,
    resampling: Resampling,
) -> None:
    """Add mean distances of generated and of unseen real images, and the share of copies.

    Args:
        figures: added to.
        generated: neighbours of generated images.
        unseen: neighbours of real images of other patients than the training ones.
        patients: of the generated images' prompts.
        unseen_patients: of the real images.
        resampling: of intervals.
    """
    sets = {KEY: (generated, patients), f"{KEY}.real": (unseen, unseen_patients)}
    for key, (found, groups) in sets.items():
        mean = bootstrap_mean(found.distances, groups=groups, resamples=resampling.resamples)
        figures.add_distance(key, mean)
    near = np.quantile(unseen.distances, SHARE)

    def rate(rows: Indices) -> float:
        return float((generated.distances[rows] < near).mean())

    figures.add_share(
        f"{KEY}.rate",
        bootstrap(rate, len(generated.distances), groups=patients, resamples=resampling.resamples),
    )
