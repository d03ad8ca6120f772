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


def _prevalence(measure: str) -> tuple[str, list[tuple[str, str]]]:
    beside = [("train prevalence for all", f"findings.{measure}.prevalence.macro")]
    return (f"findings.{measure}.macro", beside)


ROWS: tuple[tuple[str, str, list[tuple[str, str]]], ...] = (
    ("Reconstruction, PSNR (dB)", "vqgan.psnr_db", []),
    ("Reconstruction, MS-SSIM", "vqgan.ms_ssim", []),
    (
        "Share of codes in use",
        "vqgan.codebook_usage",
        [("perplexity", "vqgan.codebook_perplexity")],
    ),
    ("Fine structure, reconstructed over real", "vqgan.high_frequency_ratio", []),
    ("Judge on real images, macro AUROC", "judge.auroc.macro", []),
    (
        "Judge on reconstructions, macro AUROC",
        "vqgan.judge_auroc_reconstructed",
        [("difference from real", "vqgan.judge_auroc_difference")],
    ),
    _report_row("Reports, label micro F1", "label_micro_f1"),
    _report_row("Reports, label macro F1", "label_macro_f1"),
    _report_row("Reports, label macro F1 of the findings that occur", "label_macro_f1_present"),
    _report_row(
        "Reports, label micro F1, uncertain is present", "label_micro_f1_uncertain_positive"
    ),
    _report_row(
        "Reports, label macro F1, uncertain is present", "label_macro_f1_uncertain_positive"
    ),
    _report_row("Reports, BLEU-4", "bleu4"),
    _report_row("Reports, ROUGE-L", "rouge_l"),
    ("Reports, RadGraph F1", "report.radgraph", []),
    ("Reports, CheXbert micro F1", "report.chexbert_micro_f1", []),
    ("Reports, GREEN", "report.green", []),
    ("Reports, BERTScore", "report.bertscore", []),
    ("Reports, words", "report.words", [("real", "report.real.words")]),
    ("Reports, share of different ones", "report.distinct", [("real", "report.real.distinct")]),
    (
        "Reports, share of different pairs of words",
        "report.distinct_bigrams",
        [("real", "report.real.distinct_bigrams")],
    ),
    ("Yes or no, macro AUROC", "findings.auroc.macro", []),
    ("Yes or no, macro AUPRC", *_prevalence("auprc")),
    ("Yes or no, macro Brier score", *_prevalence("brier")),
    ("Yes or no, macro calibration error", "findings.ece.macro", []),
    _image_row("Images, Fréchet distance (judge)", "fd_judge"),
    _image_row("Images, kernel distance (judge)", "kid_judge"),
    _image_row("Images, Fréchet distance (TorchXRayVision)", "fd_xrv"),
    _image_row("Images, Fréchet distance (RAD-DINO)", "fd_rad_dino"),
    _image_row("Images, precision", "precision"),
    _image_row("Images, recall", "recall"),
    _image_row("Images, density", "density"),
    _image_row("Images, coverage", "coverage"),
    (
        "Images, MS-SSIM within a prompt",
        "image.ms_ssim_within_prompt",
        [
            ("between prompts", "image.ms_ssim_within_prompt.between_prompts"),
            ("real, between patients", "image.ms_ssim_within_prompt.real"),
        ],
    ),
    (
        "Images, distance to the nearest training image",
        "image.nearest_train",
        [("unseen real images", "image.nearest_train.real")],
    ),
    (
        "Images, share nearer than 95 % of unseen real ones",
        "image.nearest_train.rate",
        [("by chance", "0.05")],
    ),
    (
        "Images, AUROC of the prompt's findings, macro",
        "image.finding_auroc",
        [("real images", "image.finding_auroc.real")],
    ),
    (
        "Images picked by the checkpoint's judge, the same",
        "image.finding_auroc_picked",
        [("the first of each", "image.finding_auroc_picked.first")],
    ),
    (
        "Images of the model alone, the same",
        "image.finding_auroc_unguided",
        [("guided, of the same reports", "image.finding_auroc_unguided.guided")],
    ),
    (
        "Images, F1 of the prompt's findings, macro",
        "image.finding_f1",
        [("real images", "image.finding_f1.real")],
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
    (
        "Held-out instructions that are followed",
        "instructions.passed",
        [("base model", "instructions.base.passed")],
    ),
)
"""Label, key, and what stands beside it."""

_FINDING_COLUMNS = (
    ("Judge, real images", "judge.auroc"),
    ("Judge, reconstructions", "vqgan.judge_auroc_reconstructed"),
    ("Generated images", "image.finding_auroc"),
)
_ANSWER_COLUMNS = (
    ("AUROC", "findings.auroc"),
    ("AUPRC", "findings.auprc"),
    ("Brier score", "findings.brier"),
    ("Calibration error", "findings.ece"),
)
_LABEL_COLUMNS = (
    ("F1", "report.f1"),
    ("Precision", "report.precision"),
    ("Recall", "report.recall"),
)


def markdown(evaluation: Mapping[str, Any]) -> str:
    """Tables, diagnosis and footnotes of `evaluation.json`'s content."""
    values = read_figures(evaluation["metrics"])
    goals = evaluation["goals"]
    lines = ["| | value (95 % interval) | beside it | goal | reached |", "|---|---|---|---|---|"]
    lines += [" | ".join(["", *cells, ""]).strip() for cells in main_rows(values, goals)]
    for title, header, rows in finding_tables(values):
        lines += ["", f"{title}:", "", f"| | {' | '.join(header)} |"]
        lines += ["|---" * (1 + len(header)) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *_diagnosis(evaluation), *_footnotes(evaluation)]
    return "\n".join(lines) + "\n"


def main_rows(values: Values, goals: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Label, value, what stands beside it, goal, and whether it is reached.

    Rows that have neither a value nor a goal are left out.
    """
    rows = [row for row in ROWS if row[1] in values or row[1] in goals]
    return [_row(label, key, beside, values, goals) for label, key, beside in rows]


Table = tuple[str, list[str], list[list[str]]]
"""Title, names of columns, rows with their label first."""


def finding_tables(values: Values) -> list[Table]:
    """Per-finding tables; those without a row are left out."""
    wanted = (
        ("AUROC in the judge's eyes", _FINDING_COLUMNS),
        ("Answers to yes / no questions", _ANSWER_COLUMNS),
        ("Labels of written reports", _LABEL_COLUMNS),
    )
    tables = [(title, *_finding_table(values, columns)) for title, columns in wanted]
    return [table for table in tables if table[2]]


def _row(
    label: str,
    key: str,
    beside: list[tuple[str, str]],
    values: Values,
    goals: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    others = [
        f"{what} {_value(values[other]) if other in values else other}"
        for what, other in beside
        if other in values or (other[0].isdigit() and key in values)
    ]
    goal = goals.get(key, {})
    reached = {True: "yes", False: "**no**", None: ""}[goal.get("met")]
    value = _with_interval(values[key]) if key in values else "not measured"
    return [label, value, "; ".join(others), goal.get("goal", ""), reached]


def _finding_table(
    values: Values, columns: tuple[tuple[str, str], ...]
) -> tuple[list[str], list[list[str]]]:
    first = columns[0][1]
    found = [key.removeprefix(f"{first}.") for key in values if key.startswith(f"{first}.")]
    rows = []
    for finding in sorted(name for name in found if "." not in name and name != "macro"):
        keys = [f"{start}.{finding}" for _, start in columns]
        cells = [_with_interval(values[key]) if key in values else "" for key in keys]
        rows.append([finding.replace("_", " "), *cells])
    return [label for label, _ in columns], rows


def _diagnosis(evaluation: Mapping[str, Any]) -> list[str]:
    """Older evaluations have none."""
    checks = [c for c in evaluation.get("diagnosis", ()) if c["failed"] is not None]
    if not checks:
        return []
    mark = {True: "**look at {}.** ", False: ""}
    lines = [
        f"- {c['name']}: {mark[c['failed']].format(c['points_at'])}{c['sentence']}" for c in checks
    ]
    return ["What it points at:", "", *lines, ""]


def _footnotes(evaluation: Mapping[str, Any]) -> list[str]:
    return [" ".join(footnotes(evaluation)), "", _digests(evaluation["settings"])]


def footnotes(evaluation: Mapping[str, Any]) -> list[str]:
    """On what and how it was measured, in sentences."""
    settings, metrics = evaluation["settings"], evaluation["metrics"]
    said = []
    if settings.get("suite"):
        said.append(f"Suite `{settings['suite']}`.")
    if "radiographs" in settings:
        report, image = settings["report"], settings["image"]
        said.append(
            f"Measured on {settings['radiographs']} radiographs of {settings['patients']} patients"
            f" of the `{settings['split']}` split ({', '.join(settings['views'])} views), seed"
            f" {settings['seed']}. Reports at temperature {report['temperature']}; images at"
            f" temperature {image['temperature']}, top-p {image['top_p']}."
        )
    if tokens := metrics.get("language.wikitext2_ppl_after", {}).get("n", 0):
        language = settings["language"]
        said.append(
            f"Perplexity of {tokens} tokens of {language['text']}, window {language['window']},"
            f" stride {language['stride']}."
        )
    return [
        *said,
        "Intervals: bootstrap by patient; jackknife for distances of images, codes in use and"
        " different reports. Definitions: docs/evaluation.md.",
    ]


def _digests(settings: Mapping[str, Any]) -> str:
    judge = f", judge `{settings['judge'][:12]}`" if "judge" in settings else ""
    return f"Checkpoint `{settings['checkpoint'][:12]}`{judge}."


def _with_interval(interval: Interval) -> str:
    return f"{_value(interval)} ({_number(interval.low)} to {_number(interval.high)})"


def _value(interval: Interval) -> str:
    return _number(interval.value)


def _number(value: float) -> str:
    if value != value:
        return "?"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
