"""Ratings beside the truth, as tables (readers, cases): what every figure is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmcxr_training.reader_study.answers import (
    ERROR_CATEGORIES,
    PROBLEMS,
    ImageAnswer,
    ReportAnswer,
)
from llmcxr_training.reader_study.ratings import Rating
from llmcxr_training.reader_study.statistics import Table
from llmcxr_training.reader_study.study import Kind, Study, StudyError, Truth

Value = Callable[[Rating, Truth], float]


@dataclass(frozen=True)
class Rated:
    """Confirmed ratings of a study, with its truth.

    Attributes:
        readers: those who have confirmed at least one rating, in the order of their names.
        truths: by case.
        kinds: by case.
        ratings: by reader, then by case; confirmed ones.
    """

    readers: tuple[str, ...]
    truths: Mapping[str, Truth]
    kinds: Mapping[str, Kind]
    ratings: Mapping[str, Mapping[str, Rating]]

    @classmethod
    def of(cls, study: Study, truths: Mapping[str, Truth], ratings: Sequence[Rating]) -> Rated:
        """Sort what readers said.

        Raises:
            StudyError: a rating of no case of this study, or of another kind than its case.
        """
        by_reader: dict[str, dict[str, Rating]] = {}
        kinds = {id_: case.kind for id_, case in study.cases.items()}
        for rating in ratings:
            if kinds.get(rating.case_id) != rating.answer.kind:
                raise StudyError("a rating is of no case of this study, or of another kind")
            if rating.final:
                by_reader.setdefault(rating.reader, {})[rating.case_id] = rating
        return cls(tuple(sorted(by_reader)), truths, kinds, by_reader)

    def cases(self, kind: Kind) -> list[str]:
        """Cases of a kind, repetitions aside."""
        return [id_ for id_, k in self.kinds.items() if k == kind and not self.truths[id_].repeats]

    def repetitions(self, kind: Kind) -> list[tuple[str, str]]:
        """Cases of a kind that came twice: the first and the second showing."""
        found = [(self.truths[id_].repeats, id_) for id_, k in self.kinds.items() if k == kind]
        return [(first, second) for first, second in found if first is not None]

    def table(self, cases: Sequence[str], value: Value) -> Table:
        """(readers, cases) of `value`; NaN where a reader has not rated a case."""
        table = np.full((len(self.readers), len(cases)), np.nan)
        for row, reader in enumerate(self.readers):
            for column, case in enumerate(cases):
                if (rating := self.ratings[reader].get(case)) is not None:
                    table[row, column] = value(rating, self.truths[case])
        return table


def of_finished(table: Table) -> Table:
    """Rows of readers who rated every case; all rows where nobody did.

    A reader who has begun would else count as much as one who is done.
    """
    finished = np.isfinite(table).all(axis=1)
    return table[finished] if finished.any() else table


def judgement(rating: Rating, _: Truth) -> float:
    """1 certainly real to 4 certainly generated."""
    assert isinstance(rating.answer, ImageAnswer)
    return float(rating.answer.judgement)


def for_generated(rating: Rating, truth: Truth) -> float:
    """-2 the reference is much better to 2 the generated report is, wherever each stood."""
    assert isinstance(rating.answer, ReportAnswer)
    preference = float(rating.answer.preference)
    return -preference if truth.generated_first else preference


def for_first(rating: Rating, _: Truth) -> float:
    """The same for the report that was shown first."""
    assert isinstance(rating.answer, ReportAnswer)
    return -float(rating.answer.preference)


def problem(name: str) -> Value:
    """1 where this was marked as wrong in the picture."""
    assert name in PROBLEMS

    def value(rating: Rating, _: Truth) -> float:
        assert isinstance(rating.answer, ImageAnswer)
        return float(name in rating.answer.problems)

    return value


def gravity(category: str, *, of_generated: bool) -> Value:
    """0, 1 or 2: how grave such an error is in one of the two reports."""
    assert category in ERROR_CATEGORIES

    def value(rating: Rating, truth: Truth) -> float:
        assert isinstance(rating.answer, ReportAnswer)
        first = truth.generated_first is of_generated
        given = rating.answer.first if first else rating.answer.second
        return float({str(name): grade for name, grade in given.items()}.get(category, 0))

    return value
