"""`report.*`: written reports against the real ones, beside the reports that cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.metrics.classification import f1_micro, precision_and_recall
from llmcxr_training.metrics.intervals import bootstrap, bootstrap_mean, jackknife
from llmcxr_training.metrics.text import (
    Statistic,
    Table,
    distinct_n,
    distinct_reports,
    label_table,
    report_statistics,
)


def report_measures(
    figures: Figures,
    generated: Sequence[str],
    real: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    """Add the figures of written reports and of baselines, and their paired differences.

    Args:
        figures: added to.
        generated: one text a radiograph.
        real: the report of the same radiograph.
        baselines: other texts for the same radiographs, by name.
        patients: of each radiograph.
        resampling: of intervals.
        least_positives: a finding with fewer gets no figures of its own.
    """
    ours = report_statistics(generated, real)
    wanted = {f"report.{name}": statistic for name, statistic in ours.items()}
    for baseline, texts in baselines.items():
        for name, theirs in report_statistics(texts, real).items():
            wanted[f"report.{baseline}.{name}"] = theirs
            wanted[f"report.{name}.over_{baseline}"] = _difference(ours[name], theirs)
    for key, statistic in wanted.items():
        interval = bootstrap(statistic, len(real), groups=patients, resamples=resampling.resamples)
        figures.add(key, interval)
    called, truth = label_table(generated), label_table(real)
    _by_finding(figures, called, truth, patients, resampling, least_positives)
    _length(figures, {"report": generated, "report.real": real}, patients, resampling)
    _variety(figures, {"report": generated, "report.real": real}, patients, resampling)


def label_counts(generated: Sequence[str], real: Sequence[str]) -> list[dict[str, str | int]]:
    """By observation: reports that affirm it, written ones that do, and both at once.

    For both policies about uncertain statements; those that end in `_uncertain` count them too.
    """
    rows: list[dict[str, str | int]] = [{"finding": finding} for finding in FINDINGS]
    for suffix, policy in (("", False), ("_uncertain", True)):
        called = label_table(generated, uncertain_is_positive=policy)
        truth = label_table(real, uncertain_is_positive=policy)
        for column, row in enumerate(rows):
            row[f"real{suffix}"] = int(truth[:, column].sum())
            row[f"written{suffix}"] = int(called[:, column].sum())
            row[f"both{suffix}"] = int((truth & called)[:, column].sum())
    return rows


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda rows: first(rows) - second(rows)


def _by_finding(
    figures: Figures,
    called: Table,
    truth: Table,
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    targets = truth.astype(np.float32)

    def f1_of(column: int) -> Statistic:
        return lambda rows: f1_micro(targets[rows][:, [column]], called[rows][:, [column]])

    def part_of(column: int, part: int) -> Statistic:
        return lambda rows: precision_and_recall(targets[rows, column], called[rows, column])[part]

    for column, finding in enumerate(FINDINGS):
        if truth[:, column].sum() < least_positives:
            continue
        statistics = {"f1": f1_of(column), "precision": part_of(column, 0)}
        statistics["recall"] = part_of(column, 1)
        for name, statistic in statistics.items():
            interval = bootstrap(
                statistic, len(truth), groups=patients, resamples=resampling.resamples
            )
            figures.add(f"report.{name}.{slug(finding)}", interval)


def _length(
    figures: Figures,
    texts: Mapping[str, Sequence[str]],
    patients: Patients,
    resampling: Resampling,
) -> None:
    for prefix, chosen in texts.items():
        words = np.array([len(text.split()) for text in chosen], np.float64)
        mean = bootstrap_mean(words, groups=patients, resamples=resampling.resamples)
        figures.add(f"{prefix}.words", mean)

        def spread(rows: np.ndarray, words: np.ndarray = words) -> float:
            return float(words[rows].std())

        deviation = bootstrap(spread, len(words), groups=patients, resamples=resampling.resamples)
        figures.add(f"{prefix}.words_deviation", deviation)


def _variety(
    figures: Figures,
    texts: Mapping[str, Sequence[str]],
    patients: Patients,
    resampling: Resampling,
) -> None:
    """Repetitions would count as equal reports: jackknife."""
    measures: dict[str, Callable[[list[str]], float]] = {
        "distinct": distinct_reports,
        "distinct_words": lambda chosen: distinct_n(chosen, 1),
        "distinct_bigrams": lambda chosen: distinct_n(chosen, 2),
    }

    def of(chosen: Sequence[str], measure: Callable[[list[str]], float]) -> Statistic:
        return lambda rows: measure([chosen[row] for row in rows])

    for prefix, chosen in texts.items():
        for name, measure in measures.items():
            interval = jackknife(
                of(chosen, measure), len(chosen), groups=patients, folds=resampling.folds
            )
            figures.add_share(f"{prefix}.{name}", interval)
