"""`image.*`: generated radiographs among real ones, in the eyes of the judge or of another
extractor, and whether they show what their prompts say.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.evaluation.pictures import Seen
from llmcxr_training.metrics.classification import (
    MACRO,
    auroc_intervals,
    f1_macro_of,
    measured_findings,
)
from llmcxr_training.metrics.distribution import (
    Features,
    frechet_distance,
    kernel_distance,
    overlap,
)
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap, jackknife

JUDGE = "judge"
"""The extractor that is always there."""

SHARES = ("precision", "recall", "coverage")
OVERLAPS = (*SHARES, "density")


@dataclass(frozen=True)
class Pictures:
    """A set of images to compare with the real ones.

    Attributes:
        features: (N, D), in the space of one extractor.
        patients: of each; images of a prompt belong to the prompt's patient.
    """

    features: Features
    patients: Patients


@dataclass(frozen=True)
class Distances:
    """How distances are measured.

    Attributes:
        resampling: of intervals.
        neighbours: of precision, recall, coverage and density.
        extractor: whose features; named in the keys, but for the judge's shares.
    """

    resampling: Resampling
    neighbours: int
    extractor: str = JUDGE

    def key(self, measure: str) -> str:
        """`fd_judge`, `precision`, `precision_xrv`."""
        plain = self.extractor == JUDGE and measure in OVERLAPS
        return f"image.{measure}" if plain else f"image.{measure}_{self.extractor}"


def distance_measures(
    figures: Figures, real: Pictures, sets: dict[str, Pictures], settings: Distances
) -> None:
    """Add Fréchet and kernel distance, precision, recall, density, coverage of each set.

    Args:
        figures: added to.
        real: what was measured.
        sets: by the end of the key; `generated` has none: `image.fd_judge`.
        settings: how.
    """
    for name, pictures in sets.items():
        end = "" if name == "generated" else f".{name}"
        distance = _jackknife(real, pictures, frechet_distance, settings)
        figures.add_distance(f"{settings.key('fd')}{end}", distance)
        # Unbiased, so it may be negative.
        kernel = _jackknife(real, pictures, kernel_distance, settings)
        figures.add(f"{settings.key('kid')}{end}", kernel)
        for kind in OVERLAPS:
            key = f"{settings.key(kind)}{end}"
            if min(len(real.patients), len(pictures.patients)) <= 2 * settings.neighbours:
                figures.skip(key, "there are too few images")
                continue
            found = _jackknife(real, pictures, _overlap(kind, settings.neighbours), settings)
            add = figures.add_share if kind in SHARES else figures.add_distance
            add(key, found)
    for name in sets.keys() & {"marginals", "position_marginals"}:
        ratio = _ratio(real, sets["generated"], sets[name], settings)
        figures.add_distance(f"{settings.key('fd')}.over_{name}", ratio)


def finding_measures(
    figures: Figures,
    sets: dict[str, Seen],
    targets: NDArray[np.floating],
    findings: tuple[str, ...],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
    *,
    key: str = "image.finding_auroc",
    main: str = "generated",
) -> None:
    """Add the AUROC of the judge's scores: prompts with a finding against prompts without.

    Args:
        figures: added to.
        sets: `main`, and images of the same prompts to compare with.
        targets: (N, findings), what each prompt affirms.
        findings: the judge's.
        patients: of each row.
        resampling: of intervals.
        least_positives: a finding with fewer is left out.
        key: of the figure.
        main: the set whose figures have no other name.
    """
    for name, seen in sets.items():
        start = key + ("" if name == main else f".{name}")
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


def finding_f1_measures(
    figures: Figures,
    sets: dict[str, Seen],
    targets: NDArray[np.floating],
    findings: tuple[str, ...],
    thresholds: Sequence[float],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    """Add the F1 of what the judge calls present, at its own thresholds, against the prompts.

    Args:
        figures: added to.
        sets: `generated`, and images of the same rows to compare with.
        targets: (N, findings), what each prompt affirms.
        findings: the judge's.
        thresholds: the judge's, chosen on validation data; none, no F1.
        patients: of each row.
        resampling: of intervals.
        least_positives: a finding with fewer is left out.
    """
    columns = measured_findings(targets, findings, least_positives)
    if not columns or not thresholds:
        why = "the judge has no thresholds" if columns else f"none is in {least_positives} prompts"
        figures.skip("image.finding_f1", why)
        return
    chosen = {MACRO: columns} | {findings[column]: [column] for column in columns}
    for name, seen in sets.items():
        called = seen.scores >= np.array(thresholds)
        start = "image.finding_f1" + ("" if name == "generated" else f".{name}")
        for finding, some in chosen.items():

            def statistic(
                rows: Indices,
                called: NDArray[np.bool_] = called,
                some: Sequence[int] = some,
            ) -> float:
                return f1_macro_of(targets[rows], called[rows], some)

            interval = bootstrap(
                statistic, len(targets), groups=patients, resamples=resampling.resamples
            )
            figures.add(start if finding == MACRO else f"{start}.{slug(finding)}", interval)


Statistic = Callable[[Features, Features], float]


def _overlap(kind: str, neighbours: int) -> Statistic:
    return lambda real, other: float(getattr(overlap(real, other, neighbours=neighbours), kind))


def _jackknife(
    real: Pictures, other: Pictures, statistic: Statistic, settings: Distances
) -> Interval:
    """Of two sets at once: a patient is left out of both. n is the number of the other's images."""
    count = len(real.patients)

    def of_rows(rows: Indices) -> float:
        ours, theirs = rows[rows < count], rows[rows >= count] - count
        return statistic(real.features[ours], other.features[theirs])

    patients: list[Hashable] = [*real.patients, *other.patients]
    found = jackknife(of_rows, len(patients), groups=patients, folds=settings.resampling.folds)
    return Interval(found.value, found.low, found.high, len(other.patients))


def _ratio(
    real: Pictures, generated: Pictures, marginals: Pictures, settings: Distances
) -> Interval:
    """Fréchet distance of the generated images over that of `marginals`, of equal number."""
    rows_of: Sequence[Pictures] = (real, generated, marginals)
    features = np.concatenate([p.features for p in rows_of])
    owner = np.repeat(np.arange(3), [len(p.patients) for p in rows_of])
    patients: list[Hashable] = [patient for p in rows_of for patient in p.patients]

    def of_rows(rows: Indices) -> float:
        kept = [features[rows[owner[rows] == number]] for number in range(3)]
        return frechet_distance(kept[0], kept[1]) / frechet_distance(kept[0], kept[2])

    found = jackknife(of_rows, len(patients), groups=patients, folds=settings.resampling.folds)
    return Interval(found.value, found.low, found.high, len(generated.patients))
