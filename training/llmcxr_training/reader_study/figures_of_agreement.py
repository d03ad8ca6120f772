"""Do readers agree with each other, and with themselves?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmcxr_training.reader_study.answers import GENERATED_FROM
from llmcxr_training.reader_study.rated import Rated, Value, for_generated, judgement, of_finished
from llmcxr_training.reader_study.statistics import Table, cohen, fleiss, proportion
from llmcxr_training.reader_study.study import Kind

_SCALES: tuple[tuple[Kind, Value], ...] = (("image", judgement), ("report", for_generated))


def agreement_figures(rated: Rated) -> dict[str, Any]:
    """By kind of case: all readers, each pair, and each reader's second look."""
    return {kind: _of_kind(rated, kind, value) for kind, value in _SCALES}


def _of_kind(rated: Rated, kind: Kind, value: Value) -> dict[str, Any]:
    table = rated.table(rated.cases(kind), value)
    pairs = {
        f"{rated.readers[one]} / {rated.readers[other]}": _pair(table[one], table[other], kind)
        for one, other in combinations(range(len(rated.readers)), 2)
    }
    repeated = rated.repetitions(kind)
    first, second = (rated.table([pair[showing] for pair in repeated], value) for showing in (0, 1))
    return {
        "fleiss": fleiss(_called(of_finished(table), kind)).to_dict(),
        "pairs": pairs,
        "same_reader": {
            reader: _pair(first[row], second[row], kind) for row, reader in enumerate(rated.readers)
        },
    }


def _called(table: Table, kind: Kind) -> Table:
    """The decision behind the scale: real or generated; or which report, if any, is better."""
    called = table >= GENERATED_FROM if kind == "image" else np.sign(table)
    return np.where(np.isfinite(table), called, np.nan)


def _pair(one: NDArray[np.float64], other: NDArray[np.float64], kind: Kind) -> dict[str, Any]:
    both = np.isfinite(one) & np.isfinite(other)
    one, other = one[both], other[both]
    called = [_called(row, kind).tolist() for row in (one, other)]
    same = sum(a == b for a, b in zip(*called, strict=True))
    return {
        "same_decision": proportion(same, len(one)).to_dict(),
        "cohen": cohen(called[0], called[1]).to_dict(),
        "cohen_quadratic": cohen(one.tolist(), other.tolist(), weights="quadratic").to_dict(),
    }
