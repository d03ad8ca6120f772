"""`image.*`: generated radiographs among real ones, in the judge's eyes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.evaluation.pictures import Seen
from llmcxr_training.metrics.classification import MACRO, auroc_intervals
from llmcxr_training.metrics.distribution import Features, frechet_distance, overlap
from llmcxr_training.metrics.intervals import Indices, Interval, jackknife

OVERLAPS = ("precision", "recall", "coverage")


@dataclass(frozen=True)
class Pictures:
    """A set of images to compare with the real ones.

    Attributes:
        seen: through the judge.
        patients: of each; images of a prompt belong to the prompt's patient.
    """

    seen: Seen
    patients: Patients


@dataclass(frozen=True)
class Distances:
    """How distances are measured.

    Attributes:
        resampling: of intervals.
        neighbours: of precision, recall and coverage.
    """

    resampling: Resampling
    neighbours: int


def distance_measures(
    figures: Figures, real: Pictures, sets: dict[str, Pictures], settings: Distances
) -> None:
    """Add Fréchet distance, precision, recall and coverage of each set against `real`.

    Args:
        figures: added to.
        real: what was measured.
        sets: by the end of the key; `generated` has none: `image.fd_judge`.
        settings: how.
    """
    for name, pictures in sets.items():
        end = "" if name == "generated" else f".{name}"
        distance = _jackknife(real, pictures, frechet_distance, settings)
        figures.add_distance(f"image.fd_judge{end}", distance)
        for kind in OVERLAPS:
            if min(len(real.patients), len(pictures.patients)) <= 2 * settings.neighbours:
                figures.skip(f"image.{kind}{end}", "there are too few images")
            else:
                share = _jackknife(real, pictures, _share(kind, settings.neighbours), settings)
                figures.add_share(f"image.{kind}{end}", share)
    for name in sets.keys() & {"marginals", "position_marginals"}:
        ratio = _ratio(real, sets["generated"], sets[name], settings)
        figures.add_distance(f"image.fd_judge.over_{name}", ratio)


def finding_measures(
    figures: Figures,
    sets: dict[str, Seen],
    targets: NDArray[np.floating],
    findings: tuple[str, ...],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    """Add the AUROC of the judge's scores: prompts with a finding against prompts without.

    Args:
        figures: added to.
        sets: `generated`, and images of the same rows to compare with.
        targets: (N, findings), what each prompt affirms.
        findings: the judge's.
        patients: of each row.
        resampling: of intervals.
        least_positives: a finding with fewer is left out.
    """
    for name, seen in sets.items():
        start = "image.finding_auroc" + ("" if name == "generated" else f".{name}")
        intervals = auroc_intervals(
            targets,
            seen.scores,
            findings,
            least_positives=least_positives,
            groups=patients,
            resamples=resampling.resamples,
        )
        if not intervals:
            figures.skip(start, f"no finding is in {least_positives} prompts")
        for finding, interval in intervals.items():
            figures.add(start if finding == MACRO else f"{start}.{slug(finding)}", interval)


Statistic = Callable[[Features, Features], float]


def _share(kind: str, neighbours: int) -> Statistic:
    return lambda real, other: float(getattr(overlap(real, other, neighbours=neighbours), kind))


def _jackknife(
    real: Pictures, other: Pictures, statistic: Statistic, settings: Distances
) -> Interval:
    """Of two sets at once: a patient is left out of both. n is the number of the other's images."""
    count = len(real.patients)

    def of_rows(rows: Indices) -> float:
        ours, theirs = rows[rows < count], rows[rows >= count] - count
        return statistic(real.seen.features[ours], other.seen.features[theirs])

    patients: list[Hashable] = [*real.patients, *other.patients]
    found = jackknife(of_rows, len(patients), groups=patients, folds=settings.resampling.folds)
    return Interval(found.value, found.low, found.high, len(other.patients))


def _ratio(
    real: Pictures, generated: Pictures, marginals: Pictures, settings: Distances
) -> Interval:
    """Fréchet distance of the generated images over that of `marginals`, of equal number."""
    rows_of: Sequence[Pictures] = (real, generated, marginals)
    features = np.concatenate([p.seen.features for p in rows_of])
    owner = np.repeat(np.arange(3), [len(p.patients) for p in rows_of])
    patients: list[Hashable] = [patient for p in rows_of for patient in p.patients]

    def of_rows(rows: Indices) -> float:
        kept = [features[rows[owner[rows] == number]] for number in range(3)]
        return frechet_distance(kept[0], kept[1]) / frechet_distance(kept[0], kept[2])

    found = jackknife(of_rows, len(patients), groups=patients, folds=settings.resampling.folds)
    return Interval(found.value, found.low, found.high, len(generated.patients))
