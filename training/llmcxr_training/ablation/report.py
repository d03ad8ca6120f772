"""The files of a grid's results: JSON, a table in Markdown, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcxr_training.ablation.conclusions import conclusions, differs
from llmcxr_training.ablation.grid import label_of
from llmcxr_training.evaluation.plots import interval_plot
from llmcxr_training.evaluation.settings import Split
from llmcxr_training.metrics.intervals import Interval
from llmcxr_training.run_state import write_json


def write_report(results: Mapping[str, Any], output: Path) -> Path:
    """Write `ablation-<split>.json`, `.md` and `.svg`; returns the Markdown."""
    path = markdown_path(output, results["split"])
    write_json(path.with_suffix(".json"), results)
    path.with_suffix(".svg").write_text(plot(results), encoding="utf-8")
    path.write_text(markdown(results), encoding="utf-8")
    return path


def markdown_path(output: Path, split: Split) -> Path:
    """Where the table is."""
    return output / f"ablation-{split}.md"


def markdown(results: Mapping[str, Any]) -> str:
    """The tables, and what may be concluded."""
    cells = results["cells"]
    fixed = f"All cells: {label_of(results['fixed'])}. " if results["fixed"] else ""
    lines = [
        f"{fixed}Split `{results['split']}`, seeds {', '.join(map(str, results['seeds']))}, "
        f"{cells['done']} of {cells['all']} cells. Mean over seeds, 95 % interval over patients, "
        "then each seed. **Bold**: differs from the first column by patients and by every seed.",
        "",
        "| | " + " | ".join(row["label"] for row in results["rows"]) + " |",
        "|---" * (len(results["rows"]) + 1) + "|",
    ]
    for name, unit in (("steps", ""), ("tokens", ""), ("flops", " FLOP")):
        spent = [_mean([c[name] for c in row["compute"]]) for row in results["rows"]]
        lines.append(f"| {name} | " + " | ".join(f"{n:.3g}{unit}" for n in spent) + " |")
    for key, figure in results["figures"].items():
        arrow = "↓" if figure["lower_is_better"] else "↑"
        entries = [_cell(row["figures"][key]) for row in results["rows"]]
        lines.append(f"| {figure['title']} {arrow} | " + " | ".join(entries) + " |")
    return "\n".join([*lines, "", conclusions(results), ""])


def plot(results: Mapping[str, Any]) -> str:
    """SVG: one panel a figure, one line a combination."""
    groups = [
        (
            figure["title"],
            [(row["label"], _interval(row["figures"][key])) for row in results["rows"]],
        )
        for key, figure in results["figures"].items()
    ]
    return interval_plot(groups)


def _cell(entry: Mapping[str, Any]) -> str:
    value = _number(entry["value"])
    gap = entry.get("difference")
    if gap is not None and differs(gap):
        value = f"**{value}**"
    seeds = ", ".join(_number(seed) for seed in entry["seeds"])
    return f"{value} ({_number(entry['low'])} to {_number(entry['high'])}); {seeds}"


def _number(number: float | None) -> str:
    return "none" if number is None else f"{number:.4g}"


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _interval(entry: Mapping[str, Any]) -> Interval:
    value, low, high = (
        float("nan") if entry[name] is None else float(entry[name])
        for name in ("value", "low", "high")
    )
    return Interval(value, low, high, int(entry["n"]))
