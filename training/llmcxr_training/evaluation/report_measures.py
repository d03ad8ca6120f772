"""`report.*`: written reports against the real ones, beside the reports that cost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.metrics.classification import f1_micro
from llmcxr_training.metrics.intervals import bootstrap, bootstrap_mean, jackknife
from llmcxr_training.metrics.text import (
    Statistic,
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
        least_positives: a finding with fewer gets no F1 of its own.
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
    _by_finding(figures, generated, real, patients, resampling, least_positives)
    _variety(figures, {"report": generated, "report.real": real}, patients, resampling)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda rows: first(rows) - second(rows)


def _by_finding(
    figures: Figures,
    generated: Sequence[str],
    real: Sequence[str],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    called, truth = label_table(generated), label_table(real)
    targets = truth.astype(np.float32)

    def f1_of(column: int) -> Statistic:
        return lambda rows: f1_micro(targets[rows][:, [column]], called[rows][:, [column]])

    for column, finding in enumerate(FINDINGS):
        if truth[:, column].sum() >= least_positives:
            interval = bootstrap(
                f1_of(column), len(real), groups=patients, resamples=resampling.resamples
            )
            figures.add(f"report.f1.{slug(finding)}", interval)


def _variety(
    figures: Figures,
    texts: Mapping[str, Sequence[str]],
    patients: Patients,
    resampling: Resampling,
) -> None:
    def distinct_of(chosen: Sequence[str]) -> Statistic:
        return lambda rows: distinct_reports([chosen[row] for row in rows])

    for prefix, chosen in texts.items():
        words = [len(text.split()) for text in chosen]
        figures.add(
            f"{prefix}.words",
            bootstrap_mean(words, groups=patients, resamples=resampling.resamples),
        )
        # Repetitions would count as equal reports: jackknife.
        distinct = jackknife(
            distinct_of(chosen), len(chosen), groups=patients, folds=resampling.folds
        )
        figures.add_share(f"{prefix}.distinct", distinct)
