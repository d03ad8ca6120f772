"""What the figures should reach, and whether they do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from llmcxr_training.metrics.intervals import Interval

Values = Mapping[str, Interval]

REPORT_FIGURES = ("label_micro_f1", "label_macro_f1", "bleu4", "rouge_l")


@dataclass(frozen=True)
class Goal:
    """What one figure should reach.

    Attributes:
        key: of the figure.
        text: the goal in words.
        met: whether the values reach it; raises KeyError where one is missing.
    """

    key: str
    text: str
    met: Callable[[Values], bool]


def _at_least(key: str, least: float, values: Values) -> bool:
    return values[key].value >= least


def _at_most(key: str, most: float, values: Values) -> bool:
    return values[key].value <= most


def _between(key: str, least: float, most: float, values: Values) -> bool:
    return least <= values[key].value <= most


def _judge_agrees(values: Values) -> bool:
    return abs(values["vqgan.judge_auroc_difference"].value) <= 0.05


def _beats_baselines(name: str, values: Values) -> bool:
    ours = values[f"report.{name}"].low
    return all(ours > values[f"report.{b}.{name}"].high for b in ("constant", "shuffled"))


def _nearer_than_marginals(values: Values) -> bool:
    return values["image.fd_judge"].value < 0.5 * values["image.fd_judge.marginals"].value


GOALS: tuple[Goal, ...] = (
    Goal("vqgan.psnr_db", "at least 26", partial(_at_least, "vqgan.psnr_db", 26.0)),
    Goal("vqgan.ms_ssim", "at least 0.85", partial(_at_least, "vqgan.ms_ssim", 0.85)),
    Goal("vqgan.codebook_usage", "at least 0.80", partial(_at_least, "vqgan.codebook_usage", 0.80)),
    Goal(
        "vqgan.high_frequency_ratio",
        "0.5 to 1.5",
        partial(_between, "vqgan.high_frequency_ratio", 0.5, 1.5),
    ),
    Goal("judge.auroc.macro", "at least 0.75", partial(_at_least, "judge.auroc.macro", 0.75)),
    Goal("vqgan.judge_auroc_reconstructed", "within 0.05 of real", _judge_agrees),
    *(
        Goal(
            f"report.{name}",
            "above the constant and the shuffled report, intervals apart",
            partial(_beats_baselines, name),
        )
        for name in REPORT_FIGURES
    ),
    Goal("image.fd_judge", "under half of the codebook marginals'", _nearer_than_marginals),
    Goal("image.recall", "at least 0.10", partial(_at_least, "image.recall", 0.10)),
    Goal("image.finding_auroc", "at least 0.65", partial(_at_least, "image.finding_auroc", 0.65)),
    Goal(
        "language.wikitext2_ppl_ratio",
        "at most 1.10",
        partial(_at_most, "language.wikitext2_ppl_ratio", 1.10),
    ),
    Goal("image.wrong_length_rate", "0", partial(_at_most, "image.wrong_length_rate", 0.0)),
)


def judged(values: Values) -> dict[str, dict[str, str | bool | None]]:
    """By key the goal and whether the measured value meets it; None where it was not measured."""
    return {goal.key: {"goal": goal.text, "met": _met(goal, values)} for goal in GOALS}


def _met(goal: Goal, values: Values) -> bool | None:
    try:
        return bool(goal.met(values))
    except KeyError:
        return None
