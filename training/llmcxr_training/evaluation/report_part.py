"""`report.*` of an evaluation: what was written, beside the real reports and cheap ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmcxr_models.report import Report
from llmcxr_training import baselines
from llmcxr_training.evaluation.answers import TokenIds
from llmcxr_training.evaluation.cohort import report_body
from llmcxr_training.evaluation.context import Context, Material
from llmcxr_training.evaluation.learned_text_measures import learned_text_measures
from llmcxr_training.evaluation.pictures import Reconstructions
from llmcxr_training.evaluation.report_measures import label_counts, report_measures

BINS = 20
"""Of the histogram of lengths."""


def report_part(
    context: Context, material: Material, images: Reconstructions, answers: Sequence[TokenIds]
) -> list[str]:
    """Add figures, tables and cases of written reports; returns the reports."""
    tokenizer = context.checkpoint.load_tokenizer()
    written = [report_body(Report.parse(tokenizer.decode(ids))) for ids in answers]
    real = [report_body(study.report) for study in material.studies]
    report_measures(
        context.figures,
        written,
        real,
        _baselines(context, material, images, real),
        material.patients,
        context.resampling,
        context.least_positives,
    )
    learned_text_measures(
        context.figures,
        written,
        real,
        material.patients,
        context.resampling,
        wanted=context.config.radeval,
    )
    context.tables["labels"] = label_counts(written, real)
    context.tables["words"] = _lengths(written, real)
    context.cases.note("written", material.rows, written)
    context.cases.note("real", material.rows, real)
    return written


def _baselines(
    context: Context, material: Material, images: Reconstructions, real: list[str]
) -> dict[str, list[str]]:
    train = material.cohort.train
    features = material.lab.look(train, "training radiographs").features
    rows = [i for i, study in enumerate(train.studies) if not study.report.is_empty]
    reports = [report_body(train.studies[i].report) for i in rows]
    ours = images.real.rows(material.rows).features
    seed = context.config.seed
    return {
        "constant": baselines.constant(reports, len(real)),
        "shuffled": baselines.shuffled(real, material.patients, seed=seed),
        "nearest_neighbour": baselines.nearest_neighbour(ours, features[rows], reports),
    }


def _lengths(written: Sequence[str], real: Sequence[str]) -> dict[str, list[float]]:
    """Histograms over the same bins."""
    ours, theirs = ([len(text.split()) for text in texts] for texts in (written, real))
    edges = np.histogram_bin_edges([*ours, *theirs], bins=BINS)
    return {
        "edges": edges.tolist(),
        "written": np.histogram(ours, edges)[0].tolist(),
        "real": np.histogram(theirs, edges)[0].tolist(),
    }
