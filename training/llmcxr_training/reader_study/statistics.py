"""Figures of readers: proportions, kappas, and intervals over readers and cases. Pure.

Tables are (readers, cases), NaN where a reader has not rated a case.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from llmcxr_training.metrics.intervals import Interval, bootstrap

Table = NDArray[np.float64]

NONE = Interval(float("nan"), float("nan"), float("nan"), 0)
"""What has no value."""


def proportion(hits: int, n: int) -> Interval:
    """A share with Wilson's score interval (Wilson, J. Am. Stat. Assoc. 22:209, 1927)."""
    if not n:
        return NONE
    found = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Interval(hits / n, float(found.low), float(found.high), n)


def chance(hits: int, n: int) -> float | None:
    """Two-sided exact binomial test of `hits` in `n` against one half; None without any."""
    return float(stats.binomtest(hits, n, 0.5).pvalue) if n else None


def crossed(
    table: Table,
    statistic: Callable[[Table, NDArray[np.intp]], float],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A figure of all readers, with an interval over both: other readers, other cases.

    Readers and cases are drawn, independently, with repetitions (Gallas, Acad. Radiol. 13:353,
    2006, as a bootstrap). Two or three readers say little of readers at large: so does it.

    Args:
        table: (readers, cases).
        statistic: of a drawn table and the drawn case numbers; NaN where it has no value.
        resamples: how often to draw.
        seed: of the drawing.
    """
    readers, cases = table.shape
    if not readers or not np.isfinite(table).any():
        return NONE
    rng = np.random.default_rng(seed)
    whole = statistic(table, np.arange(cases))
    drawn = []
    for _ in range(resamples):
        who = rng.integers(readers, size=(readers,))
        what = rng.integers(cases, size=(cases,))
        drawn.append(statistic(table[who][:, what], what))
    values = np.array([value for value in drawn if np.isfinite(value)])
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return Interval(float(whole), float(low), float(high), int(np.isfinite(table).sum()))


def mean_of_readers(table: Table) -> float:
    """Every reader counts alike, however many cases they rated."""
    with warnings.catch_warnings():
        # A drawn reader may have rated none of the drawn cases.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(np.nanmean(table, axis=1)))


def cohen(
    first: Sequence[float], second: Sequence[float], *, weights: str | None = None
) -> Interval:
    """Cohen's kappa of two ratings of the same cases (Educ. Psychol. Meas. 20:37, 1960).

    `quadratic` weights (Cohen, Psychol. Bull. 70:213, 1968) for scales. By scikit-learn, with an
    interval by bootstrap over cases; no value where chance alone would agree always.
    """
    ratings = np.array([first, second], np.float64)
    labels = np.unique(ratings)

    def kappa(rows: NDArray[np.intp]) -> float:
        one, other = ratings[0, rows], ratings[1, rows]
        if len(np.unique([one, other])) < 2:
            return float("nan")
        return float(cohen_kappa_score(one, other, labels=labels, weights=weights))

    return bootstrap(kappa, len(first)) if len(first) else NONE


def fleiss(table: Table) -> Interval:
    """Fleiss' kappa of all readers (Psychol. Bull. 76:378, 1971) on the cases that all rated.

    Of categories without order. An interval by bootstrap over cases; no value for fewer than two
    readers, or where chance alone would agree always.
    """
    whole = table[:, np.isfinite(table).all(axis=0)]
    readers, cases = whole.shape
    if readers < 2 or not cases:
        return NONE
    categories = np.unique(whole)
    counts = np.stack([(whole == category).sum(axis=0) for category in categories], axis=1)

    def kappa(rows: NDArray[np.intp]) -> float:
        drawn = counts[rows].astype(np.float64)
        of_case = (np.square(drawn).sum(axis=1) - readers) / (readers * (readers - 1))
        expected = float(np.square(drawn.mean(axis=0) / readers).sum())
        if expected >= 1.0:
            return float("nan")
        return (float(of_case.mean()) - expected) / (1.0 - expected)

    return bootstrap(kappa, cases)


def signed_rank(values: Sequence[float]) -> float | None:
    """Wilcoxon's signed-rank test of case means against 0, zeros as Pratt counts them.

    (Wilcoxon, Biometrics Bull. 1:80, 1945; Pratt, J. Am. Stat. Assoc. 54:655, 1959.) None where
    there is nothing but zeros.
    """
    if not np.any(values):
        return None
    return float(stats.wilcoxon(values, zero_method="pratt", method="asymptotic").pvalue)
