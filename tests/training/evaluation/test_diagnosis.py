"""Every signature of failure, and a model without any."""

from __future__ import annotations

import pytest

from llmcxr_training.evaluation.diagnosis import diagnosed
from llmcxr_training.metrics.intervals import Interval

WELL = {
    "judge.auroc.macro": 0.85,
    "vqgan.psnr_db": 30.0,
    "vqgan.ms_ssim": 0.95,
    "vqgan.judge_auroc_difference": -0.01,
    "vqgan.high_frequency_ratio": 0.9,
    "vqgan.codebook_usage": 0.95,
    "image.wrong_length_rate": 0.0,
    "image.fd_judge": 0.1,
    "image.fd_judge.reconstructions": 0.02,
    "image.fd_judge.floor": 0.08,
    "image.precision": 0.8,
    "image.recall": 0.6,
    "image.nearest_train.rate": 0.05,
    "image.finding_auroc": 0.75,
    "image.finding_auroc.real": 0.8,
    "report.label_micro_f1": 0.6,
    "report.shuffled.label_micro_f1": 0.3,
    "report.constant.label_micro_f1": 0.4,
    "report.distinct": 0.8,
    "findings.auroc.macro": 0.8,
    "findings.ece.macro": 0.05,
    "language.wikitext2_ppl_ratio": 1.02,
    "instructions.passed": 0.5,
    "instructions.base.passed": 0.5,
    "instructions.passed.over_base": 0.0,
}

ILL = [
    ("Judge", {"judge.auroc.macro": 0.66}, "weak evidence"),
    ("Reconstructions", {"vqgan.psnr_db": 20.0}, "VQ-GAN loses"),
    ("Reconstructions", {"vqgan.judge_auroc_difference": -0.1}, "VQ-GAN loses"),
    ("Fine structure", {"vqgan.high_frequency_ratio": 0.07}, "7 % of the fine"),
    ("Fine structure", {"vqgan.high_frequency_ratio": 2.0}, "noise"),
    ("Codebook", {"vqgan.codebook_usage": 0.1}, "collapsed"),
    ("Image tokens", {"image.wrong_length_rate": 0.01}, "constraint is broken"),
    ("Distance of generated images", {"image.fd_judge": 0.9}, "language model draws"),
    (
        "Distance of generated images",
        {"image.fd_judge": 0.9, "image.fd_judge.reconstructions": 0.8, "image.fd_judge.floor": 0.1}
        | {"image.fd_judge": 1.7},
        "VQ-GAN is the limit",
    ),
    ("Variety of generated images", {"image.recall": 0.04}, "all alike"),
    ("Copied training images", {"image.nearest_train.rate": 0.4}, "suspiciously near"),
    ("Report to image", {"image.finding_auroc": 0.53}, "not aligned"),
    ("Report to image", {"image.finding_auroc.real": 0.55}, "nothing can be said"),
    ("Image to report", {"report.distinct": 0.01}, "one sentence"),
    ("Image to report", {"report.constant.label_micro_f1": 0.6}, "a constant report"),
    ("Image to report", {"report.shuffled.label_micro_f1": 0.7}, "another patient's report"),
    ("Probabilities of findings", {"findings.auroc.macro": 0.51}, "hardly depend"),
    ("Probabilities of findings", {"findings.ece.macro": 0.3}, "calibrate"),
    ("Language", {"language.wikitext2_ppl_ratio": 1.27}, "being forgotten"),
    ("Instructions", {"instructions.passed.over_base": -0.2}, "less than before"),
]


def values(changed: dict[str, float]) -> dict[str, Interval]:
    return {k: Interval(v, v - 0.01, v + 0.01, 100) for k, v in (WELL | changed).items()}


def test_a_model_without_faults() -> None:
    found = diagnosed(values({}))
    assert [check.name for check in found if check.failed is not False] == []
    assert all(check.sentence.endswith((".", ").")) for check in found)


@pytest.mark.parametrize(("name", "changed", "words"), ILL)
def test_a_signature(name: str, changed: dict[str, float], words: str) -> None:
    failed = [check for check in diagnosed(values(changed)) if check.failed]
    (check,) = [check for check in failed if check.name == name]
    assert words in check.sentence
    assert check.points_at


def test_what_was_not_measured_is_not_judged() -> None:
    assert {check.failed for check in diagnosed({})} == {None}
    some = {k: v for k, v in values({}).items() if not k.startswith("image.")}
    assert {c.name for c in diagnosed(some) if c.failed is None} == {
        "Image tokens",
        "Distance of generated images",
        "Variety of generated images",
        "Copied training images",
        "Report to image",
    }
