"""`vqgan.*` and `judge.*`: what reconstruction keeps, and how good its judge is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from llmcxr_training.evaluation.figures import Figures, Patients, Resampling, slug
from llmcxr_training.evaluation.pictures import Reconstructions
from llmcxr_training.metrics.classification import (
    auroc_intervals,
    macro_auroc,
    measured_findings,
)
from llmcxr_training.metrics.intervals import (
    Indices,
    Interval,
    bootstrap,
    bootstrap_mean,
    jackknife,
)
from llmcxr_training.metrics.reconstruction import (
    code_counts,
    codebook_perplexity,
    codebook_usage,
    high_frequency_ratio,
)


def vqgan_measures(
    figures: Figures,
    images: Reconstructions,
    patients: Patients,
    codebook_size: int,
    resampling: Resampling,
) -> None:
    """Add what can be measured of reconstructions to `figures`."""
    resamples = resampling.resamples
    for name in ("psnr_db", "ms_ssim"):
        if (values := images.figures.get(name)) is None:
            figures.skip(f"vqgan.{name}", "the images are too small")
        else:
            interval = bootstrap_mean(values, groups=patients, resamples=resamples)
            figures.add(f"vqgan.{name}", interval)
    real, reconstructed = (images.figures.get(f"{k}_power") for k in ("real", "reconstructed"))
    if real is None or reconstructed is None:
        figures.skip("vqgan.high_frequency_ratio", "the images are too small")
    else:
        ratio = high_frequency_ratio(real, reconstructed, groups=patients, resamples=resamples)
        figures.add("vqgan.high_frequency_ratio", ratio)
    codes = torch.from_numpy(images.codes.astype(np.int64))

    def jackknifed(statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
        # A resampling with repetitions always uses fewer codes than there are.
        return jackknife(
            lambda rows: statistic(code_counts(codes[torch.from_numpy(rows)], codebook_size)),
            len(codes),
            groups=patients,
            folds=resampling.folds,
        )

    figures.add_share("vqgan.codebook_usage", jackknifed(codebook_usage))
    figures.add_distance("vqgan.codebook_perplexity", jackknifed(codebook_perplexity))


def judge_measures(
    figures: Figures,
    images: Reconstructions,
    targets: NDArray[np.floating],
    findings: tuple[str, ...],
    patients: Patients,
    resampling: Resampling,
    least_positives: int,
) -> None:
    """Add the judge's AUROC on radiographs and on their reconstructions to `figures`.

    Args:
        figures: added to.
        images: radiographs and reconstructions.
        targets: (N, findings) present, absent or unknown.
        findings: the judge's.
        patients: of each radiograph.
        resampling: of intervals.
        least_positives: a finding with fewer is left out.
    """
    real, again = images.real.scores, images.reconstructed.scores
    columns = measured_findings(targets, findings, least_positives)
    if not columns:
        for key in ("judge.auroc.macro", "vqgan.judge_auroc_reconstructed"):
            figures.skip(key, f"no finding is present {least_positives} times")
        return
    for prefix, scores in (("judge.auroc", real), ("vqgan.judge_auroc_reconstructed", again)):
        intervals = auroc_intervals(
            targets,
            scores,
            findings,
            least_positives=least_positives,
            groups=patients,
            resamples=resampling.resamples,
        )
        for name, interval in intervals.items():
            whole = name == "macro" and prefix.startswith("vqgan")
            figures.add(prefix if whole else f"{prefix}.{slug(name)}", interval)

    def change(rows: Indices) -> float:
        after, before = (macro_auroc(targets[rows], s[rows], columns) for s in (again, real))
        return after - before

    difference = bootstrap(change, len(targets), groups=patients, resamples=resampling.resamples)
    figures.add("vqgan.judge_auroc_difference", difference)
