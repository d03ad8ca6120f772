"""`report.radgraph`, `.chexbert_*`, `.green`, `.bertscore`: learned measures, where they are had.

Through the `radeval` package (Xu et al., EMNLP 2025 demonstrations), which fetches weights from a
hub: neither it nor the weights are needed. What cannot be loaded is stated as not measured, each
measure for itself; the network is not asked where `HF_HUB_OFFLINE` is set.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmcxr_training.evaluation.figures import Figures, Patients, Resampling
from llmcxr_training.metrics.intervals import Interval, bootstrap_mean

_log = logging.getLogger(__name__)

BY_REPORT = {
    "radgraph": {"radgraph_partial": "report.radgraph"},
    "green": {"green": "report.green"},
    "bertscore": {"bertscore": "report.bertscore"},
}
"""radeval's measures with a value a report: its key, and ours."""

WHOLE = {
    "f1chexbert": {
        "f1chexbert_all_micro_f1": "report.chexbert_micro_f1",
        "f1chexbert_all_macro_f1": "report.chexbert_macro_f1",
        "f1chexbert_5_micro_f1": "report.chexbert_micro_f1_5",
        "f1chexbert_5_macro_f1": "report.chexbert_macro_f1_5",
    },
}
"""Those that have one value for all reports together: no interval."""


def learned_text_measures(
    figures: Figures,
    generated: Sequence[str],
    real: Sequence[str],
    patients: Patients,
    resampling: Resampling,
    *,
    wanted: bool = True,
) -> None:
    """Add what radeval can compute here; the rest is listed as not measured.

    Args:
        figures: added to.
        generated: one text a radiograph.
        real: the report of the same radiograph.
        patients: of each radiograph.
        resampling: of intervals.
        wanted: or nothing is tried.
    """
    radeval, why = _package(wanted)
    for measures, by_report in ((BY_REPORT, True), (WHOLE, False)):
        for name, keys in measures.items():
            found: Mapping[str, Any] = {}
            reason = why
            if radeval is not None:
                found, reason = _measure(radeval, name, generated, real, per_sample=by_report)
            for theirs, ours in keys.items():
                if theirs not in found:
                    figures.skip(ours, reason)
                elif by_report:
                    values = np.array(found[theirs], np.float64)
                    figures.add(
                        ours,
                        bootstrap_mean(values, groups=patients, resamples=resampling.resamples),
                    )
                else:
                    nowhere = float("nan")
                    figures.add(ours, Interval(float(found[theirs]), nowhere, nowhere, len(real)))


def _package(wanted: bool) -> tuple[Any, str]:
    if not wanted:
        return None, "it was not asked for"
    try:
        return importlib.import_module("radeval").RadEval, ""
    except (ImportError, AttributeError):
        return None, "it needs the radeval package, which is not installed"


def _measure(
    radeval: Any,  # noqa: ANN401  the package may be absent
    name: str,
    generated: Sequence[str],
    real: Sequence[str],
    *,
    per_sample: bool,
) -> tuple[Mapping[str, Any], str]:
    """Its values, or none and why. A package that fetches and runs models fails in many ways."""
    try:
        measure = radeval(metrics=[name], per_sample=per_sample, show_progress=False)
    except Exception:
        _log.warning("radeval's %s cannot be loaded", name, exc_info=True)
        return {}, "its weights cannot be loaded here"
    try:
        found: Mapping[str, Any] = measure(refs=list(real), hyps=list(generated))
    except Exception:
        _log.warning("radeval's %s failed", name, exc_info=True)
        return {}, "radeval failed on these reports"
    return found, "radeval gave no such value"
