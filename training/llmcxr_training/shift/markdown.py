"""The tables of a measurement of domain shift. Pure text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmcxr_training.evaluation.figures import read_figures
from llmcxr_training.metrics.intervals import Interval

Values = Mapping[str, Interval]

UNNOTICED_BELOW = 0.5
"""A fall counts as noticed where the gate warns of at least this share of the pictures."""

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("PSNR, dB", "psnr_db"),
    ("MS-SSIM", "ms_ssim"),
    ("judge's AUROC", "judge_auroc"),
    ("the same through the VQ-GAN", "judge_auroc_reconstructed"),
    ("judge moved by the VQ-GAN", "judge_moved"),
    ("AUROC of yes or no", "finding_auroc"),
    ("label micro F1", "report_label_micro_f1"),
    ("ROUGE-L", "report_rouge_l"),
)
_FALLS = ("psnr_db", "judge_auroc", "judge_auroc_reconstructed", "finding_auroc")
"""What must not fall unnoticed; wording of reports may."""


def markdown(found: Mapping[str, Any]) -> str:
    """Tables and footnotes of `shift.json`'s content."""
    values, sets = read_figures(found["metrics"]), found["sets"]
    columns = [c for c in _COLUMNS if any(f"{s['name']}.{c[1]}" in values for s in sets)]
    heads = ["", "n", *(label for label, _ in columns), "refused, %", "warned, %", "noticed"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [_row(one, columns, values) for one in sets]
    return "\n".join([*lines, "", *_footnotes(found)]) + "\n"


def _row(one: Mapping[str, Any], columns: list[tuple[str, str]], values: Values) -> str:
    name = one["name"]
    cells = [one["text"], str(one["pictures"])]
    cells += [_cell(f"{name}.{figure}", values) for _, figure in columns]
    warned = [values.get(f"{name}.{kind}") for kind in ("doubted", "lateral")]
    refused = values.get(f"{name}.refused")
    known = [share for share in warned if share is not None]
    cells.append("-" if refused is None else f"{100 * refused.value:.1f}")
    cells.append(f"{100 * sum(share.value for share in known):.1f}" if known else "-")
    return f"| {' | '.join([*cells, noticed(name, values)])} |"


def noticed(name: str, values: Values) -> str:
    """Whether something fell for certain, and whether the gate says so.

    A fall is certain where the whole interval of the change is below 0.
    """
    changes = [values.get(f"{name}.{figure}.change") for figure in _FALLS]
    fell = any(change is not None and change.high < 0 for change in changes)
    share = values.get(f"{name}.noticed")
    if share is None or not any(change is not None for change in changes):
        return ""
    if not fell:
        return "no fall"
    return "yes" if share.value >= UNNOTICED_BELOW else "**no**"


def _cell(key: str, values: Values) -> str:
    if key not in values:
        return "-"
    change = values.get(f"{key}.change")
    value = _number(values[key].value)
    if change is None:
        return f"{value} ({_number(values[key].low)} to {_number(values[key].high)})"
    return f"{value}; {_signed(change.value)} ({_signed(change.low)} to {_signed(change.high)})"


def _footnotes(found: Mapping[str, Any]) -> list[str]:
    settings = found["settings"]
    few = settings["reconstructions"]
    return [
        f"`{settings['split']}` split, seed {settings['seed']}. First row: value (95 % interval)."
        " Others: value; change from the first row (95 % interval), paired for the same"
        " radiographs changed, unpaired for other patients. Through the VQ-GAN went"
        f" {'all' if few is None else few} radiographs of each set; judge and gate saw all."
        " Noticed: something fell for certain (PSNR or an AUROC, whole interval below 0) and the"
        f" gate refuses or warns of at least {UNNOTICED_BELOW:.0%} of the pictures. `-`: not"
        " measured, for example without reports or with too few positives.",
        "",
        f"Checkpoint `{settings['checkpoint'][:12]}`, judge `{settings['judge'][:12]}`.",
    ]


def _number(value: float) -> str:
    if value != value:
        return "?"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _signed(value: float) -> str:
    if value != value:
        return "?"
    return f"{value:+.1f}" if abs(value) >= 1 else f"{value:+.3f}"
