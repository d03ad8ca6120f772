"""`image.*` of an evaluation: drawn radiographs, beside real, reconstructed and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_training.data import Study
from llmcxr_training.evaluation.answers import TokenIds
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.image_measures import (
    Distances,
    Pictures,
    distance_measures,
    finding_f1_measures,
    finding_measures,
)
from llmcxr_training.evaluation.marginals import from_marginals, from_position_marginals
from llmcxr_training.evaluation.memorisation import (
    Neighbours,
    memorisation_measures,
    neighbours,
)
from llmcxr_training.evaluation.pictures import Reconstructions, Seen
from llmcxr_training.metrics.classification import measured_findings
from llmcxr_training.metrics.intervals import bootstrap_mean
from llmcxr_training.targets import targets

_DIGITS = 4


@dataclass(frozen=True)
class Generated:
    """Drawn images of the right length.

    Attributes:
        asked: which of the asked studies each belongs to.
        codes: (N, image_length).
        seen: through the judge.
        near: the training image nearest to each.
    """

    asked: list[int]
    codes: NDArray[np.uint16]
    seen: Seen
    near: Neighbours


def image_part(
    context: Context, material: Material, images: Reconstructions, answers: Sequence[TokenIds]
) -> Generated | None:
    """Add figures, curves and cases; None where hardly an image has the right length."""
    vocabulary = context.checkpoint.manifest.vocabulary
    drawn = [codes_of(vocabulary, ids) for ids in answers]
    wrong = bootstrap_mean(
        [float(codes is None) for codes in drawn],
        groups=material.patients,
        resamples=context.resampling.resamples,
    )
    context.figures.add("image.wrong_length_rate", wrong)
    asked = [i for i, codes in enumerate(drawn) if codes is not None]
    if len(asked) < 2:
        context.figures.skip("image.fd_judge", "hardly an image has the right length")
        return None
    codes = np.array([drawn[i] for i in asked], np.uint16)
    seen = material.lab.decode(codes, "generated images")
    train = material.lab.look(material.cohort.train, "training radiographs")
    generated = Generated(asked, codes, seen, neighbours(seen.features, train.features))
    _distances(context, material, images, generated)
    _findings(context, material, images, generated)
    _memorisation(context, material, images, generated, train)
    return generated


def codes_of(vocabulary: Vocabulary, token_ids: TokenIds) -> list[int] | None:
    """The codes of one image; None where the tokens are not exactly one."""
    try:
        return vocabulary.to_codes(token_ids)
    except InvalidImageTokens:
        return None


def _distances(
    context: Context, material: Material, images: Reconstructions, generated: Generated
) -> None:
    rows = [material.rows[i] for i in generated.asked]
    patients = [material.patients[i] for i in generated.asked]
    floor = material.cohort.floor
    real = images.real.rows(rows)
    sets: dict[str, tuple[Seen, list[Any]]] = {
        "generated": (generated.seen, patients),
        "reconstructions": (images.reconstructed.rows(rows), patients),
        "floor": (
            material.lab.look(floor, "other real radiographs"),
            [study.patient_id for study in floor.studies],
        ),
        **_marginals(context, material, len(rows)),
    }
    extractor = material.lab.extractor
    spaces = ["judge"] if extractor is None else ["judge", extractor.name]
    for space in spaces:
        settings = Distances(context.resampling, context.config.neighbours, space)
        distance_measures(
            context.figures,
            Pictures(_features(real, space), patients),
            {name: Pictures(_features(seen, space), who) for name, (seen, who) in sets.items()},
            settings,
        )
    arrays = context.cases.arrays
    arrays["image.asked"] = np.array(generated.asked)
    arrays["image.real_features"] = real.features
    arrays["image.generated_features"] = generated.seen.features


def _features(seen: Seen, space: str) -> NDArray[np.float32]:
    if space == "judge" or seen.extra is None:
        return seen.features
    return seen.extra


def _marginals(
    context: Context, material: Material, count: int
) -> dict[str, tuple[Seen, list[Any]]]:
    train, config = material.cohort.train, context.config
    rng = np.random.default_rng(config.seed)
    chosen = rng.permutation(len(train))[: config.marginal_images]
    codes = material.lab.encode(train, sorted(chosen.tolist()))
    # Nobody's: every image is drawn for itself.
    return {
        name: (
            material.lab.decode(draw(codes, count, config.seed), name),
            [(name, number) for number in range(count)],
        )
        for name, draw in (
            ("marginals", from_marginals),
            ("position_marginals", from_position_marginals),
        )
    }


def _findings(
    context: Context, material: Material, images: Reconstructions, generated: Generated
) -> None:
    rows = [material.rows[i] for i in generated.asked]
    patients = [material.patients[i] for i in generated.asked]
    judge = material.lab.judge.config
    wanted = prompt_targets([material.studies[i] for i in generated.asked], judge.findings)
    sets = {
        "generated": generated.seen,
        "real": images.real.rows(rows),
        "reconstructions": images.reconstructed.rows(rows),
    }
    how = (patients, context.resampling, context.least_positives)
    finding_measures(context.figures, sets, wanted, judge.findings, *how)
    finding_f1_measures(context.figures, sets, wanted, judge.findings, judge.thresholds, *how)
    context.tables["images"] = _curves(wanted, sets, judge.findings, context.least_positives)
    context.cases.note_table("prompt", rows, judge.findings, wanted)
    context.cases.note_table("drawn", rows, judge.findings, generated.seen.scores)
    context.cases.arrays["image.targets"] = wanted
    context.cases.arrays["image.generated_scores"] = generated.seen.scores


def prompt_targets(studies: Sequence[Study], findings: tuple[str, ...]) -> NDArray[np.float32]:
    """What each prompt affirms, (N, findings); what only the index knows was never asked for."""
    rows = [targets(study.report.text, ()) for study in studies]
    return np.array([[row[finding] for finding in findings] for row in rows], np.float32)


def _curves(
    wanted: NDArray[np.float32],
    sets: dict[str, Seen],
    findings: tuple[str, ...],
    least_positives: int,
) -> dict[str, dict[str, Any]]:
    """ROC of generated and of real images, by finding."""
    found: dict[str, dict[str, Any]] = {}
    for column in measured_findings(wanted, findings, least_positives):
        known = np.isfinite(wanted[:, column])
        truth = wanted[known, column]
        curves: dict[str, Any] = {"positives": int(truth.sum()), "known": int(known.sum())}
        for name in ("generated", "real"):
            false, true, _ = roc_curve(truth, sets[name].scores[known, column])
            curves[name] = {
                "false_positive_rate": [round(float(x), _DIGITS) for x in false],
                "true_positive_rate": [round(float(x), _DIGITS) for x in true],
            }
        found[findings[column]] = curves
    return found


def _memorisation(
    context: Context,
    material: Material,
    images: Reconstructions,
    generated: Generated,
    train: Seen,
) -> None:
    """All measured radiographs are the unseen ones: more of them than were asked about."""
    memorisation_measures(
        context.figures,
        generated.near,
        neighbours(images.real.features, train.features),
        [material.patients[i] for i in generated.asked],
        material.measured_patients,
        context.resampling,
    )
    rows = [material.rows[i] for i in generated.asked]
    distances = [round(float(d), _DIGITS) for d in generated.near.distances]
    context.cases.note("nearest_train_distance", rows, distances)
    context.cases.arrays["image.nearest_train"] = generated.near.distances
