"""`vqgan.*` and `judge.*` of an evaluation: all measured radiographs through VQ-GAN and judge."""

from __future__ import annotations

import numpy as np

from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.pictures import Reconstructions
from llmcxr_training.evaluation.vqgan_measures import judge_measures, vqgan_measures
from llmcxr_training.targets import target_table


def reconstruction_part(context: Context, material: Material) -> Reconstructions:
    """Add figures and cases of reconstructions."""
    measured, lab, figures = material.cohort.measured, material.lab, context.figures
    images = lab.reconstruct(measured)
    patients, findings = material.measured_patients, lab.judge.config.findings
    codebook_size = context.checkpoint.manifest.vocabulary.codebook_size
    vqgan_measures(figures, images, patients, codebook_size, context.resampling)
    targets = target_table(measured.studies, findings)
    judge_measures(
        figures,
        images,
        targets,
        findings,
        patients,
        context.resampling,
        context.least_positives,
    )
    rows, cases = range(len(measured)), context.cases
    for name in ("psnr_db", "ms_ssim"):
        if (values := images.figures.get(name)) is not None:
            cases.note(name, rows, [round(float(value), 4) for value in values])
            cases.arrays[f"vqgan.{name}"] = values
    cases.arrays["judge.targets"] = targets
    cases.arrays["judge.real"] = images.real.scores
    cases.arrays["judge.reconstructed"] = images.reconstructed.scores
    cases.arrays["patients"] = np.array(patients)
    cases.arrays["asked"] = np.array(material.rows)
    return images
