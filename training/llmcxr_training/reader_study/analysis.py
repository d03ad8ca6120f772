"""`llmcxr-train reader-study analyse`: what the ratings say, as JSON and Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from llmcxr_training.reader_study.analysis_markdown import markdown
from llmcxr_training.reader_study.figures_of_agreement import agreement_figures
from llmcxr_training.reader_study.figures_of_images import image_figures
from llmcxr_training.reader_study.figures_of_reports import report_figures
from llmcxr_training.reader_study.rated import Rated
from llmcxr_training.reader_study.ratings import Rating, RatingStore
from llmcxr_training.reader_study.study import RATINGS, Study, StudyError
from llmcxr_training.run_state import write_json

ANALYSIS_JSON, ANALYSIS_MARKDOWN = "analysis.json", "analysis.md"
_DIGITS = 6


def analyse(folder: Path, output: Path, *, key: Path | None = None, resamples: int = 2000) -> Path:
    """Write `analysis.json` and `analysis.md`; ratings and study are only read.

    Args:
        folder: the study folder.
        output: where the results go.
        key: of the study, where it is not in the folder.
        resamples: of intervals over readers and cases.

    Returns:
        Path of the Markdown.

    Raises:
        StudyError: the study was changed, the key is not its own, a rating cannot be read, or
            nobody has confirmed a rating yet.
    """
    study = Study.open(folder)
    truths = study.open_key(key)
    if not (folder / RATINGS).is_file():
        raise StudyError("nobody has rated anything yet")
    store = RatingStore(folder / RATINGS, study.digest)
    try:
        ratings, readers = store.latest(), store.readers()
    finally:
        store.close()
    rated = Rated.of(study, truths, ratings)
    if not rated.readers:
        raise StudyError("nobody has confirmed a rating yet")
    found: dict[str, Any] = {
        "study": {"title": study.file.title, "digest": study.digest, **study.file.provenance},
        "readers": {reader: _progress(reader, ratings, len(study.cases)) for reader in readers},
        "images": image_figures(rated, resamples) if rated.cases("image") else None,
        "reports": report_figures(rated, resamples) if rated.cases("report") else None,
        "agreement": agreement_figures(rated),
        "resamples": resamples,
    }
    output.mkdir(parents=True, exist_ok=True)
    clean = _clean(found)
    write_json(output / ANALYSIS_JSON, clean)
    path = output / ANALYSIS_MARKDOWN
    path.write_text(markdown(clean), encoding="utf-8")
    return path


def _progress(reader: str, ratings: list[Rating], total: int) -> dict[str, Any]:
    own = [rating for rating in ratings if rating.reader == reader]
    final = [rating for rating in own if rating.final]
    seconds = [rating.seconds for rating in final]
    return {
        "cases": total,
        "rated": len(final),
        "begun": len(own) - len(final),
        "median_seconds": float(np.median(seconds)) if seconds else None,
    }


def _clean(value: Any) -> Any:  # noqa: ANN401  JSON
    """What has no value is null; no more digits than mean something."""
    if isinstance(value, dict):
        return {key: _clean(nested) for key, nested in value.items()}
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value
