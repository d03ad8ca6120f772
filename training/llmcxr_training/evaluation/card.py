"""Put an evaluation's figures into a model card, between two marks, and beside it as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from llmcxr_training.data import DataError
from llmcxr_training.evaluation.markdown import markdown

BEGIN = "<!-- figures: written by llmcxr-train card -->"
END = "<!-- end of figures -->"
METRICS_JSON = "metrics.json"
EVALUATION_JSON = "evaluation.json"


def write_card(results: Path, card: Path) -> None:
    """Replace what stands between the marks of `card`; copy both JSON files beside it.

    Args:
        results: folder of an evaluation.
        card: Markdown file with the two marks, each on a line of its own.

    Raises:
        DataError: no finished evaluation, or no marks.
    """
    try:
        evaluation = json.loads((results / EVALUATION_JSON).read_text(encoding="utf-8"))
        table = markdown(evaluation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{results} holds no finished evaluation") from error
    try:
        text = card.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{card.name} cannot be read") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{card.name} has no place for figures: {BEGIN} ... {END}")
    temporary = card.with_suffix(".md.tmp")
    temporary.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")
    for name in (METRICS_JSON, EVALUATION_JSON):
        shutil.copyfile(results / name, card.parent / name)
    temporary.replace(card)
