"""`llmcxr-train evaluate --compare A B`: two finished evaluations of the same radiographs.

compare.json      {key: first, second, difference with interval, p, p after Holm, verdict}
compare.md/.html  the same as a table, with a plot
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmcxr_training.data import DataError
from llmcxr_training.evaluation import plots
from llmcxr_training.evaluation.card import EVALUATION_JSON
from llmcxr_training.evaluation.cases import Cases
from llmcxr_training.evaluation.comparable import (
    Comparable,
    finding_comparables,
    image_comparables,
    language_comparables,
    report_comparables,
    vqgan_comparables,
)
from llmcxr_training.evaluation.html_report import render
from llmcxr_training.metrics.intervals import Interval
from llmcxr_training.metrics.permutation import holm
from llmcxr_training.run_state import write_json

COMPARE_JSON, COMPARE_MARKDOWN, COMPARE_HTML = "compare.json", "compare.md", "compare.html"

SIGNIFICANT = 0.05

_SAME_DATA = ("split", "cases", "sections", "views", "suite", "limit")
"""Settings that say on what was measured."""

_LANGUAGE = ("language", "arithmetic")


@dataclass(frozen=True)
class Finished:
    """A finished evaluation.

    Attributes:
        settings: of its `evaluation.json`.
        cases: radiograph by radiograph.
    """

    settings: Mapping[str, Any]
    cases: Cases

    @classmethod
    def read(cls, folder: Path) -> Finished:
        """The results in `folder`.

        Raises:
            DataError: not finished, or by a version that kept no cases.
        """
        try:
            content = json.loads((folder / EVALUATION_JSON).read_text(encoding="utf-8"))
            settings = content["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no finished evaluation") from error
        return cls(settings, Cases.read(folder))


def compare(
    first: Path, second: Path, output: Path, *, permutations: int = 1000, folds: int = 20
) -> dict[str, Any]:
    """Test every figure that both have, and write the results to `output`.

    Args:
        first: folder of a finished evaluation.
        second: of another, on the same radiographs.
        output: folder to write.
        permutations: exchanges of the test, and resamplings of intervals.
        folds: of jackknives.

    Returns:
        The content of `compare.json`.

    Raises:
        DataError: one is not finished, or they measured different data.
    """
    ours, theirs = Finished.read(first), Finished.read(second)
    check_same_data(ours, theirs)
    figures = comparables(ours, theirs)
    if not figures:
        raise DataError("the two evaluations have no figure in common")
    p_values = {f.key: f.p_value(permutations=permutations) for f in figures}
    corrected = holm(p_values)
    result = {
        "first": _named(ours),
        "second": _named(theirs),
        "figures": {
            f.key: _entry(f, p_values[f.key], corrected[f.key], permutations, folds)
            for f in figures
        },
        "settings": {
            "permutations": permutations,
            "folds": folds,
            "same_judge": _same(ours, theirs, ("judge",)),
            **{name: ours.settings.get(name) for name in _SAME_DATA},
        },
    }
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / COMPARE_JSON, result)
    (output / COMPARE_MARKDOWN).write_text(compare_markdown(result), encoding="utf-8")
    (output / COMPARE_HTML).write_text(compare_html(result), encoding="utf-8")
    return result


def check_same_data(first: Finished, second: Finished) -> None:
    """Only the same radiographs with the same reports are compared.

    Raises:
        DataError: names what differs.
    """
    differing = [n for n in _SAME_DATA if first.settings.get(n) != second.settings.get(n)]
    if differing:
        raise DataError(
            f"the two evaluations measured different data; they differ in: {', '.join(differing)}"
        )


def comparables(first: Finished, second: Finished) -> list[Comparable]:
    """Every figure that can be compared; the judge's only where it is the same judge."""
    ours, theirs = first.cases, second.cases
    found = language_comparables(ours, theirs, same_text=_same(first, second, _LANGUAGE))
    if "patients" not in ours.arrays or "patients" not in theirs.arrays:
        return found
    measured = ours.arrays["patients"].tolist()
    asked = [measured[row] for row in ours.arrays["asked"]]
    if not np.array_equal(ours.arrays["asked"], theirs.arrays["asked"]):
        raise DataError("the two checkpoints were asked about different radiographs")
    least = first.settings["least_positives"]
    same_judge = _same(first, second, ("judge",))
    found += vqgan_comparables(ours, theirs, measured, least, same_judge=same_judge)
    found += report_comparables(ours, theirs, asked)
    found += finding_comparables(ours, theirs, asked, least)
    if same_judge:
        found += image_comparables(ours, theirs, asked, least, first.settings["neighbours"])
    return found


def compare_markdown(result: Mapping[str, Any]) -> str:
    """The table."""
    lines = [
        f"First: {result['first']}. Second: {result['second']}.",
        "",
        "| | first | second | second minus first (95 % interval) | p | p (Holm) | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in compare_rows(result)]
    return "\n".join([*lines, "", footnote(result)]) + "\n"


def compare_html(result: Mapping[str, Any]) -> str:
    """The table and a plot of the differences, as one page."""
    rows = [
        (key, _relative(entry), entry["p_holm"] < SIGNIFICANT)
        for key, entry in result["figures"].items()
        if entry["first"]
    ]
    return render(
        "compare.html.j2",
        result=result,
        rows=compare_rows(result),
        footnote=footnote(result),
        plot=plots.difference_plot(rows),
    )


def compare_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Key, both values, difference, p-values, verdict; for people."""
    rows = []
    for key, entry in result["figures"].items():
        change = entry["difference"]
        low, high = (_number(change[name]) for name in ("low", "high"))
        rows.append(
            [
                key,
                _number(entry["first"]),
                _number(entry["second"]),
                f"{_number(change['value'])} ({low} to {high})",
                f"{entry['p']:.3f}",
                f"{entry['p_holm']:.3f}",
                entry["verdict"],
            ]
        )
    return rows


def footnote(result: Mapping[str, Any]) -> str:
    """How it was tested, in a sentence."""
    settings = result["settings"]
    judge = "" if settings["same_judge"] else " The judges differ, so its figures are left out."
    return (
        f"Paired permutation test by patient, {settings['permutations']} exchanges, Holm's"
        f" correction over {len(result['figures'])} figures, significant below {SIGNIFICANT}."
        f" Intervals: paired bootstrap; jackknife for distances of images.{judge}"
    )


def _entry(
    figure: Comparable, p: float, corrected: float, permutations: int, folds: int
) -> dict[str, Any]:
    first, second = figure.values()
    change = figure.difference(resamples=permutations, folds=folds)
    interval = {k: v if v == v else None for k, v in change.to_dict().items()}
    return {
        "first": first,
        "second": second,
        "difference": interval,
        "more_is_better": figure.more_is_better,
        "p": p,
        "p_holm": corrected,
        "verdict": _verdict(change.value, corrected, more_is_better=figure.more_is_better),
    }


def _verdict(change: float, p: float, *, more_is_better: bool) -> str:
    if p >= SIGNIFICANT or change == 0:
        return "no difference shown"
    return "second is better" if (change > 0) == more_is_better else "first is better"


def _relative(entry: Mapping[str, Any]) -> Interval:
    change, unit = entry["difference"], abs(entry["first"])
    low, high = (float("nan") if change[k] is None else change[k] / unit for k in ("low", "high"))
    return Interval(change["value"] / unit, low, high, change["n"])


def _same(first: Finished, second: Finished, names: tuple[str, ...]) -> bool:
    return all(first.settings.get(name) == second.settings.get(name) for name in names)


def _named(evaluation: Finished) -> str:
    settings = evaluation.settings
    return f"{settings['checkpoint_name']} ({settings['checkpoint'][:12]})"


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
