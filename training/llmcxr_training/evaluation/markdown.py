"""The table of a model card, made from an evaluation's results. Pure text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcxr_training.evaluation.figures import read_figures
from llmcxr_training.metrics.intervals import Interval

Values = Mapping[str, Interval]

_REPORT_BASELINES = (
    ("constant report", "constant"),
    ("another patient's", "shuffled"),
    ("nearest training image's", "nearest_neighbour"),
)
_IMAGE_BASELINES = (
    ("real, other patients", "floor"),
    ("reconstructed", "reconstructions"),
    ("code marginals", "marginals"),
    ("marginals by position", "position_marginals"),
)


def _report_row(label: str, name: str) -> tuple[str, str, list[tuple[str, str]]]:
    beside = [(what, f"report.{baseline}.{name}") for what, baseline in _REPORT_BASELINES]
    return (label, f"report.{name}", beside)


def _image_row(label: str, name: str) -> tuple[str, str, list[tuple[str, str]]]:
    return (label, f"image.{name}", [(what, f"image.{name}.{b}") for what, b in _IMAGE_BASELINES])


ROWS: tuple[tuple[str, str, list[tuple[str, str]]], ...] = (
    ("Reconstruction, PSNR (dB)", "vqgan.psnr_db", []),
    ("Reconstruction, MS-SSIM", "vqgan.ms_ssim", []),
    ("Share of codes in use", "vqgan.codebook_usage", []),
    ("Fine structure, reconstructed over real", "vqgan.high_frequency_ratio", []),
    ("Judge on real images, macro AUROC", "judge.auroc.macro", []),
    (
        "Judge on reconstructions, macro AUROC",
        "vqgan.judge_auroc_reconstructed",
        [("difference from real", "vqgan.judge_auroc_difference")],
    ),
    _report_row("Reports, label micro F1", "label_micro_f1"),
    _report_row("Reports, label macro F1", "label_macro_f1"),
    _report_row("Reports, BLEU-4", "bleu4"),
    _report_row("Reports, ROUGE-L", "rouge_l"),
    ("Reports, share of different ones", "report.distinct", [("real", "report.real.distinct")]),
    _image_row("Images, Fréchet distance (judge)", "fd_judge"),
    _image_row("Images, precision", "precision"),
    _image_row("Images, recall", "recall"),
    _image_row("Images, coverage", "coverage"),
    (
        "Images, AUROC of the prompt's findings, macro",
        "image.finding_auroc",
        [("real images", "image.finding_auroc.real")],
    ),
    ("Images of a wrong length", "image.wrong_length_rate", []),
    (
        "WikiText-2 perplexity, after over before",
        "language.wikitext2_ppl_ratio",
        [
            ("before", "language.wikitext2_ppl_before"),
            ("after", "language.wikitext2_ppl_after"),
        ],
    ),
)
"""Label, key, and what stands beside it."""

_FINDING_COLUMNS = (
    ("Judge, real images", "judge.auroc"),
    ("Judge, reconstructions", "vqgan.judge_auroc_reconstructed"),
    ("Generated images", "image.finding_auroc"),
)


def markdown(evaluation: Mapping[str, Any]) -> str:
    """Tables and footnotes of `evaluation.json`'s content."""
    values = read_figures(evaluation["metrics"])
    goals = evaluation["goals"]
    lines = ["| | value (95 % interval) | beside it | goal | reached |", "|---|---|---|---|---|"]
    lines += [_row(label, key, beside, values, goals) for label, key, beside in ROWS]
    return "\n".join([*lines, "", *_finding_table(values), *_footnotes(evaluation)]) + "\n"


def _row(
    label: str,
    key: str,
    beside: list[tuple[str, str]],
    values: Values,
    goals: Mapping[str, Mapping[str, Any]],
) -> str:
    others = [f"{what} {_value(values[other])}" for what, other in beside if other in values]
    goal = goals.get(key, {})
    reached = {True: "yes", False: "**no**", None: ""}[goal.get("met")]
    value = _with_interval(values[key]) if key in values else "not measured"
    return f"| {label} | {value} | {'; '.join(others)} | {goal.get('goal', '')} | {reached} |"


def _finding_table(values: Values) -> list[str]:
    found = [
        key.removeprefix("judge.auroc.")
        for key in values
        if key.startswith("judge.auroc.") and not key.endswith(".macro")
    ]
    if not found:
        return []
    lines = [
        "| AUROC | " + " | ".join(label for label, _ in _FINDING_COLUMNS) + " |",
        "|---" * (1 + len(_FINDING_COLUMNS)) + "|",
    ]
    for finding in sorted(found):
        keys = [f"{start}.{finding}" for _, start in _FINDING_COLUMNS]
        cells = [_with_interval(values[key]) if key in values else "" for key in keys]
        lines.append(f"| {finding.replace('_', ' ')} | {' | '.join(cells)} |")
    return [*lines, ""]


def _footnotes(evaluation: Mapping[str, Any]) -> list[str]:
    settings, metrics = evaluation["settings"], evaluation["metrics"]
    tokens = metrics.get("language.wikitext2_ppl_after", {}).get("n", 0)
    report, image = settings["report"], settings["image"]
    language = settings["language"]
    return [
        f"Measured on {settings['radiographs']} radiographs of {settings['patients']} patients of"
        f" the `{settings['split']}` split ({', '.join(settings['views'])} views), seed"
        f" {settings['seed']}. Reports at temperature {report['temperature']}; images at"
        f" temperature {image['temperature']}, top-p {image['top_p']}. Perplexity of"
        f" {tokens} tokens of {language['text']}, window {language['window']}, stride"
        f" {language['stride']}. Intervals: bootstrap by patient; jackknife for distances of"
        " images, codes in use and different reports. Definitions: docs/evaluation.md.",
        "",
        f"Checkpoint `{settings['checkpoint'][:12]}`, judge `{settings['judge'][:12]}`.",
    ]


def _with_interval(interval: Interval) -> str:
    return f"{_value(interval)} ({_number(interval.low)} to {_number(interval.high)})"


def _value(interval: Interval) -> str:
    return _number(interval.value)


def _number(value: float) -> str:
    if value != value:
        return "?"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
