"""Which part of a model to look at first: known signatures of failure, a sentence each. Pure.

The chain is VQ-GAN, then language model, then their alignment; a later part cannot be better than
an earlier one. So each check compares a figure with what the part before it allows (reconstructions
before generated images, the judge on real images before the judge on generated ones), the way in
which LLM-CXR's own discussion reads its figures (arXiv 2305.11490).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from llmcxr_training.metrics.intervals import Interval

Values = Mapping[str, Interval]


@dataclass(frozen=True)
class Diagnosis:
    """One check.

    Attributes:
        name: what was looked at.
        points_at: the part to look at if it fails.
        failed: whether it does; None where its figures were not measured.
        sentence: what was found, for people.
    """

    name: str
    points_at: str
    failed: bool | None
    sentence: str

    def to_dict(self) -> dict[str, str | bool | None]:
        """For JSON."""
        return asdict(self)


Found = tuple[bool, str]


@dataclass(frozen=True)
class _Check:
    name: str
    points_at: str
    find: Callable[[Values], Found]


def diagnosed(values: Values) -> list[Diagnosis]:
    """Every check, in the order of the chain."""
    return [_diagnosis(check, values) for check in _CHECKS]


def _diagnosis(check: _Check, values: Values) -> Diagnosis:
    try:
        failed, sentence = check.find(values)
    except KeyError:
        return Diagnosis(check.name, check.points_at, None, "Its figures were not measured.")
    return Diagnosis(check.name, check.points_at, failed, sentence)


def _judge(values: Values) -> Found:
    auroc = values["judge.auroc.macro"].value
    if auroc < 0.75:
        return True, (
            f"The judge tells findings in real radiographs with an AUROC of {auroc:.2f} only, so"
            " what it says of generated ones, either way, is weak evidence."
        )
    return False, f"The judge tells findings in real radiographs (AUROC {auroc:.2f})."


def _reconstructions(values: Values) -> Found:
    psnr, similarity = values["vqgan.psnr_db"].value, values["vqgan.ms_ssim"].value
    change = values["vqgan.judge_auroc_difference"].value
    # Not "-0.00".
    shown = round(change, 2) + 0.0
    said = f"PSNR {psnr:.1f} dB, MS-SSIM {similarity:.2f}, the judge's AUROC {shown:+.2f}"
    if psnr < 24 or similarity < 0.80 or change < -0.05:
        return True, (
            f"Reconstructions are poor ({said}): the VQ-GAN loses what the language model would"
            " have to see and draw; train it first."
        )
    return False, f"Reconstructions keep what the judge sees ({said})."


def _fine_structure(values: Values) -> Found:
    ratio = values["vqgan.high_frequency_ratio"].value
    if ratio < 0.5:
        return True, (
            f"Reconstructions have {100 * ratio:.0f} % of the fine structure's power: ribs and"
            " vessels are blurred by the VQ-GAN, whatever the language model does."
        )
    if ratio > 1.5:
        return True, (
            f"Reconstructions have {ratio:.1f} times the fine structure's power: the VQ-GAN adds"
            " noise."
        )
    return False, f"Fine structure survives the VQ-GAN ({ratio:.2f} of its power)."


def _codebook(values: Values) -> Found:
    usage = values["vqgan.codebook_usage"].value
    if usage < 0.5:
        return True, (
            f"Only {100 * usage:.0f} % of the codes are in use: the codebook has collapsed, and"
            " image tokens carry little."
        )
    return False, f"{100 * usage:.0f} % of the codes are in use."


def _distance(values: Values) -> Found:
    drawn = values["image.fd_judge"].value
    again, floor = (values[f"image.fd_judge.{k}"].value for k in ("reconstructions", "floor"))
    said = f"{drawn:.2f}; reconstructions {again:.2f}, other real patients {floor:.2f}"
    if drawn <= 2 * max(floor, again):
        return False, f"Generated images lie about as near to real ones as these do ({said})."
    if again <= max(floor, 0.25 * drawn):
        return True, (
            f"The Fréchet distance is poor while reconstructions are good ({said}): the language"
            " model draws codes in a wrong order; it needs more steps or more report-to-image"
            " examples, not another VQ-GAN."
        )
    return True, (
        f"The Fréchet distance is poor, and that of reconstructions is no better ({said}): the"
        " VQ-GAN is the limit."
    )


def _diversity(values: Values) -> Found:
    precision, recall = values["image.precision"].value, values["image.recall"].value
    said = f"precision {precision:.2f}, recall {recall:.2f}"
    if recall < 0.1 and precision > 2 * recall:
        return True, (
            f"Generated images are plausible and all alike ({said}): too little variety; raise"
            " temperature or top-p, or train longer on rarer findings."
        )
    return False, f"Generated images are as varied as they are plausible ({said})."


def _alignment(values: Values) -> Found:
    drawn, real = (values[f"image.finding_auroc{k}"].value for k in ("", ".real"))
    said = f"AUROC {drawn:.2f}; real images of the same reports {real:.2f}"
    if real < 0.6:
        return True, (
            f"The judge does not find the reports' findings in real images either ({said}), so"
            " nothing can be said of the alignment."
        )
    if drawn - 0.5 < 0.5 * (real - 0.5):
        return True, (
            f"Generated images hardly show what their prompts say ({said}): report and image are"
            " not aligned; more refined pairs and the second stage are the remedy."
        )
    return False, f"Generated images show what their prompts say ({said})."


def _reading(values: Values) -> Found:
    ours = values["report.label_micro_f1"].value
    other = values["report.shuffled.label_micro_f1"].value
    constant = values["report.constant.label_micro_f1"].value
    distinct = values["report.distinct"].value
    if distinct < 0.05:
        return True, (
            f"Only {100 * distinct:.0f} % of the reports differ from each other: one sentence is"
            " written for everybody, and the image is not read."
        )
    if ours <= max(other, constant):
        best = "another patient's" if other >= constant else "a constant"
        return True, (
            f"Reports name findings no better than {best} report does (micro F1 {ours:.2f};"
            f" {max(other, constant):.2f}): the image is hardly read."
        )
    return False, (
        f"Reports name findings better than a constant or another patient's (micro F1 {ours:.2f};"
        f" {constant:.2f}, {other:.2f})."
    )


def _probabilities(values: Values) -> Found:
    auroc, error = values["findings.auroc.macro"].value, values["findings.ece.macro"].value
    said = f"AUROC {auroc:.2f}, calibration error {error:.2f}"
    if auroc < 0.6:
        return True, f"Answers to yes / no questions hardly depend on the image ({said})."
    if error > 0.1:
        return True, (
            f"Answers order radiographs rightly, but their probabilities are not to be taken at"
            f" their word ({said}): calibrate before any threshold is set."
        )
    return False, f"Probabilities of findings mean about what they say ({said})."


def _memorised(values: Values) -> Found:
    rate = values["image.nearest_train.rate"]
    said = f"{100 * rate.value:.0f} % nearer to a training image than 95 % of unseen ones are"
    if rate.low > 0.1:
        return True, (
            f"Generated images come suspiciously near to training ones ({said}): look at the pairs"
            " before anything is published; images of patients may have been learnt by heart."
        )
    return False, f"No sign of copied training images ({said}; chance is 5 %)."


def _language(values: Values) -> Found:
    ratio = values["language.wikitext2_ppl_ratio"].value
    if ratio > 1.1:
        return True, (
            f"Perplexity of plain text is {ratio:.2f} times the base model's: language is being"
            " forgotten; raise the share of instructions in the mixing, or lower the learning rate."
        )
    return False, f"Plain text is predicted about as well as before ({ratio:.2f} times)."


def _instructions(values: Values) -> Found:
    over = values["instructions.passed.over_base"]
    ours, base = values["instructions.passed"].value, values["instructions.base.passed"].value
    said = f"{100 * ours:.0f} % of held-out instructions, the base model {100 * base:.0f} %"
    if over.high < 0:
        return True, (
            f"Instructions are followed less than before fine-tuning ({said}): the language share"
            " is too small, or its answers are poor."
        )
    return False, f"Instructions are followed as far as can be told as before ({said})."


def _length(values: Values) -> Found:
    rate = values["image.wrong_length_rate"].value
    if rate > 0:
        return True, f"{100 * rate:.1f} % of the answers are no image: the constraint is broken."
    return False, "Every answer to a report is exactly one image."


_VQGAN, _LLM, _ALIGNMENT = "the VQ-GAN", "the language model", "the alignment of both"

_CHECKS = (
    _Check("Judge", "the judge", _judge),
    _Check("Reconstructions", _VQGAN, _reconstructions),
    _Check("Fine structure", _VQGAN, _fine_structure),
    _Check("Codebook", _VQGAN, _codebook),
    _Check("Image tokens", "the constraint", _length),
    _Check("Distance of generated images", "the language model, or the VQ-GAN", _distance),
    _Check("Variety of generated images", _LLM, _diversity),
    _Check("Copied training images", _LLM, _memorised),
    _Check("Report to image", _ALIGNMENT, _alignment),
    _Check("Image to report", _ALIGNMENT, _reading),
    _Check("Probabilities of findings", _ALIGNMENT, _probabilities),
    _Check("Language", "the share of language in the mixing", _language),
    _Check("Instructions", "the share of language in the mixing", _instructions),
)
