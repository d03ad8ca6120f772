"""Reports that a model must beat: one for everybody, somebody else's, the look-alike's.

Pure choices among real reports; they know no model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence

from llmcxr_training.data import DataError
from llmcxr_training.metrics.distribution import Features, nearest, standardised


def constant(train_reports: Sequence[str], count: int) -> list[str]:
    """The train split's most frequent report, `count` times; of equals, the first.

    Raises:
        DataError: no report that says anything.
    """
    counts = Counter(text for text in train_reports if text.strip())
    if not counts:
        raise DataError("a constant report needs reports of the train split")
    return [counts.most_common(1)[0][0]] * count


def shuffled(reports: Sequence[str], patients: Sequence[Hashable], *, seed: int = 0) -> list[str]:
    """For each row the report of another patient, each report once.

    Raises:
        DataError: one patient has more than half of all rows.
    """
    rows_of: dict[Hashable, list[int]] = {}
    for row, patient in enumerate(patients):
        rows_of.setdefault(patient, []).append(row)
    rng = random.Random(seed)  # noqa: S311  a shuffle, no secret
    order = list(rows_of.values())
    rng.shuffle(order)
    largest = max(map(len, order), default=0)
    if len(patients) != len(reports) or 2 * largest > len(reports):
        raise DataError("a shuffle needs a report a row, and no patient with half of them")
    # Patient beside patient, a turn by the largest patient's rows meets nobody's own report.
    rows = [row for members in order for row in members]
    result = [""] * len(rows)
    for place, row in enumerate(rows):
        result[row] = reports[rows[(place + largest) % len(rows)]]
    return result


def nearest_neighbour(
    features: Features, train_features: Features, train_reports: Sequence[str]
) -> list[str]:
    """For each image the report of the train image that is nearest in feature space.

    Args:
        features: (N, D) of the images to report on.
        train_features: (M, D).
        train_reports: M.

    Raises:
        DataError: not one report a train image.
    """
    if len(train_features) != len(train_reports) or not train_reports:
        raise DataError("a nearest neighbour needs a report of every train image")
    rows = nearest(
        standardised(features, train_features), standardised(train_features, train_features)
    )
    return [train_reports[row] for row in rows]
