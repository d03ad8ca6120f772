"""Generated reports against the real ones: labels, BLEU-4, ROUGE-L, and how varied they are.

Labels are the rule-based labeller's; the two policies for uncertain statements are both in use
in the literature, so both are measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.labeller import positives
from llmcxr_training.metrics.classification import f1_macro, f1_micro
from llmcxr_training.metrics.intervals import Indices, Interval, bootstrap

FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The observations of CheXpert's competition, often reported beside all fourteen."""

_FIVE_COLUMNS = [FINDINGS.index(finding) for finding in FIVE]

_BLEU = BLEU(lowercase=True, effective_order=True)
_ORDER = 4
_WORDS = re.compile(r"[a-z0-9]+")

Table = NDArray[np.bool_]
"""(N, 14): which observation of `FINDINGS` each report affirms."""

Statistic = Callable[[Indices], float]
"""A figure of some rows, with repetitions."""


def text_metrics(
    generated: Sequence[str],
    real: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Label F1, BLEU-4 and ROUGE-L of `generated` against the real report of the same row.

    `label_micro_f1` and `label_macro_f1` take an uncertain statement as absent; those that end in
    `_uncertain_positive` take it as present. `label_macro_f1_present` is the mean over the
    observations that a real report affirms at all; `..._f1_5` is of the five in `FIVE`. Every
    value is in [0, 1].

    Args:
        generated: one text a radiograph.
        real: the report of the same radiograph.
        groups: the patient of each row.
        resamples: of the bootstrap.

    Raises:
        ValueError: lists of different lengths, or empty ones.
    """
    statistics = report_statistics(generated, real)
    return {
        name: bootstrap(statistic, len(real), groups=groups, resamples=resamples)
        for name, statistic in statistics.items()
    }


def report_statistics(generated: Sequence[str], real: Sequence[str]) -> dict[str, Statistic]:
    """The figures of `text_metrics` as functions of rows, to compare two systems row by row.

    Raises:
        ValueError: lists of different lengths.
    """
    if len(generated) != len(real):
        raise ValueError("as many generated reports as real ones")
    result: dict[str, Statistic] = {}
    for suffix, policy in (("", False), ("_uncertain_positive", True)):
        truth = label_table(real, uncertain_is_positive=policy)
        called = label_table(generated, uncertain_is_positive=policy)
        present = np.flatnonzero(truth.any(axis=0)).tolist()
        for average in ("micro", "macro"):
            result[f"label_{average}_f1{suffix}"] = _f1_statistic(called, truth, average)
            five = (called[:, _FIVE_COLUMNS], truth[:, _FIVE_COLUMNS], average)
            result[f"label_{average}_f1_5{suffix}"] = _f1_statistic(*five)
        if present:
            some = (called[:, present], truth[:, present], "macro")
            result[f"label_macro_f1_present{suffix}"] = _f1_statistic(*some)
    overlaps = rouge_l(generated, real)
    result["bleu4"] = _bleu_statistic(generated, real)
    result["rouge_l"] = lambda rows: float(overlaps[rows].mean())
    return result


def label_table(texts: Sequence[str], *, uncertain_is_positive: bool = False) -> Table:
    """What the labeller finds affirmed in each text."""
    found = [positives(text, uncertain_is_positive=uncertain_is_positive) for text in texts]
    table = np.array([[finding in labels for finding in FINDINGS] for labels in found], bool)
    return table.reshape(len(texts), len(FINDINGS))


def label_f1(
    called: Table,
    truth: Table,
    *,
    average: str = "micro",
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
) -> Interval:
    """F1 of the labels of generated reports against those of the real ones.

    Args:
        called: labels of the generated reports.
        truth: labels of the real reports.
        average: `micro`, over all decisions; or `macro`, the mean over all fourteen
            observations, 0 for one that neither side ever affirms.
        groups: the patient of each row.
        resamples: of the bootstrap.
    """
    statistic = _f1_statistic(called, truth, average)
    return bootstrap(statistic, len(truth), groups=groups, resamples=resamples)


def bleu4(
    generated: Sequence[str],
    real: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
) -> Interval:
    """Corpus BLEU-4, lower case, one reference, in [0, 1] (sacrebleu; Post, arXiv 1804.08771)."""
    statistic = _bleu_statistic(generated, real)
    return bootstrap(statistic, len(real), groups=groups, resamples=resamples)


def rouge_l(generated: Sequence[str], real: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-L F-measure of each pair, (N,): longest common subsequence of words (Lin, 2004).

    Words are runs of letters and digits in lower case, unstemmed, as in the rouge-score package.
    """
    return np.array([_rouge_l(g, r) for g, r in zip(generated, real, strict=True)])


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all n-grams of all texts (Li et al., arXiv 1510.03055).

    It falls with the amount of text: compare only sets of about the same size.
    """
    grams = [
        tuple(words[i : i + n])
        for words in (_WORDS.findall(text.lower()) for text in texts)
        for i in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def distinct_reports(texts: Sequence[str]) -> float:
    """Different texts over all texts; spacing, case and punctuation aside."""
    return len({" ".join(_WORDS.findall(text.lower())) for text in texts}) / max(1, len(texts))


def _f1_statistic(called: Table, truth: Table, average: str) -> Statistic:
    f1 = {"micro": f1_micro, "macro": f1_macro}[average]
    targets = truth.astype(np.float32)
    return lambda rows: f1(targets[rows], called[rows])


def _bleu_statistic(generated: Sequence[str], real: Sequence[str]) -> Statistic:
    counts = bleu_counts(generated, real)
    return lambda rows: bleu_of(counts[rows])


def bleu_counts(generated: Sequence[str], real: Sequence[str]) -> NDArray[np.int64]:
    """What a corpus's BLEU is summed from, of each pair: (N, 10)."""
    return np.array([_bleu_counts(g, r) for g, r in zip(generated, real, strict=True)])


def bleu_of(counts: NDArray[np.int64]) -> float:
    """Corpus BLEU-4 in [0, 1] of the pairs with these `bleu_counts` (N, 10)."""
    return _bleu(counts.sum(axis=0).tolist())


def _bleu_counts(generated: str, real: str) -> list[int]:
    """What a corpus's BLEU is summed from: matches, n-grams, lengths."""
    score = _BLEU.sentence_score(generated, [real])
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def _bleu(sums: list[int]) -> float:
    matches, totals = sums[:_ORDER], sums[_ORDER : 2 * _ORDER]
    return float(BLEU.compute_bleu(matches, totals, sums[-2], sums[-1]).score) / 100.0


def _rouge_l(generated: str, real: str) -> float:
    ours, theirs = _WORDS.findall(generated.lower()), _WORDS.findall(real.lower())
    common = _longest_common_subsequence(ours, theirs)
    return 2.0 * common / (len(ours) + len(theirs)) if common else 0.0


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]
