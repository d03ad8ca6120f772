"""A whole evaluation with a scripted language model: keys, files, resumption, bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.judges import with_judge
from tests.training.conftest import write_lines
from tests.training.evaluation.conftest import ScriptedModel, read

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.judge import Judge
from llmcxr_models.prompt import Task
from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.run_state import write_json

REPORT = ("label_micro_f1", "label_macro_f1", "bleu4", "rouge_l")
KEYS = {
    "vqgan.psnr_db",
    "vqgan.codebook_usage",
    "judge.auroc.macro",
    "judge.auroc.cardiomegaly",
    "vqgan.judge_auroc_reconstructed",
    "vqgan.judge_auroc_difference",
    *(f"report.{name}" for name in REPORT),
    *(
        f"report.{baseline}.{name}"
        for baseline in ("constant", "shuffled", "nearest_neighbour")
        for name in REPORT
    ),
    *(f"report.{name}.over_shuffled" for name in REPORT),
    *(
        f"image.{name}{end}"
        for name in ("fd_judge", "kid_judge", "precision", "recall", "density", "coverage")
        for end in ("", ".floor", ".reconstructions", ".marginals", ".position_marginals")
    ),
    "image.fd_judge.over_marginals",
    "image.finding_auroc",
    "image.finding_auroc.cardiomegaly",
    "image.finding_auroc.real",
    "image.nearest_train",
    "image.nearest_train.real",
    "image.nearest_train.rate",
    *(f"report.{name}{end}" for name in ("precision", "recall") for end in (".cardiomegaly",)),
    *(
        f"report{of}.{name}"
        for of in ("", ".real")
        for name in ("words", "words_deviation", "distinct", "distinct_words", "distinct_bigrams")
    ),
    "report.label_macro_f1_present",
    "report.label_micro_f1_uncertain_positive",
    "report.label_macro_f1_5_uncertain_positive",
    *(f"findings.{name}.macro" for name in ("auroc", "auprc", "brier", "ece")),
    "findings.auprc.prevalence.macro",
    "findings.brier.prevalence.macro",
    "findings.auroc.cardiomegaly",
    "instructions.passed",
    "instructions.base.passed",
    "instructions.passed.over_base",
    "image.wrong_length_rate",
    "language.wikitext2_ppl_before",
    "language.wikitext2_ppl_after",
    "language.wikitext2_ppl_ratio",
}


@pytest.fixture
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return Checkpoint.open(checkpoint_path)


def asked(model: ScriptedModel, task: Task) -> int:
    """How many questions of a kind it was asked."""
    return sum(question.prompt.task is task for question in model.asked)


def records_of(manifest: Path) -> list[dict[str, Any]]:
    """The lines of a manifest, to be written elsewhere."""
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [record | {"file": str(manifest.parent / record["file"])} for record in records]


def test_every_figure_of_the_table(checkpoint: Checkpoint, settings: Evaluation) -> None:
    model = ScriptedModel(checkpoint)
    evaluate(checkpoint.path, settings, lambda: model)
    metrics = read(settings.output / "metrics.json")
    assert set(metrics) >= KEYS
    for key, entry in metrics.items():
        assert set(entry) == {"value", "low", "high", "n"}, key
        assert entry["low"] is None or entry["low"] <= entry["high"], key
    # 20 test radiographs with a report, one without; the lateral one is not this checkpoint's.
    assert metrics["vqgan.psnr_db"]["n"] == 21
    assert metrics["report.bleu4"]["n"] == metrics["image.fd_judge"]["n"] == 20
    assert metrics["image.fd_judge.floor"]["n"] == 14
    assert metrics["image.wrong_length_rate"]["value"] == 0.0
    ratio = metrics["language.wikitext2_ppl_after"]["value"]
    ratio /= metrics["language.wikitext2_ppl_before"]["value"]
    assert metrics["language.wikitext2_ppl_ratio"]["value"] == pytest.approx(ratio, rel=1e-3)
    assert [asked(model, task) for task in (Task.REPORT, Task.IMAGE)] == [20, 20]
    # Eight findings of each of the 20.
    assert asked(model, Task.QUESTION) == 160

    evaluation = read(settings.output / "evaluation.json")
    assert evaluation["metrics"] == metrics
    assert evaluation["settings"]["checkpoint"] == checkpoint.manifest.digest
    assert evaluation["settings"]["split"] == "test"
    assert evaluation["settings"]["floor_split"] == "val"
    # Pictures of 32 pixels have no five scales and no 32 cycles.
    assert set(evaluation["not_measured"]) >= {
        "vqgan.ms_ssim",
        "vqgan.high_frequency_ratio",
        "image.ms_ssim_within_prompt",
        "report.radgraph",
        "report.chexbert_micro_f1",
        "report.green",
        "report.bertscore",
        # This judge has no thresholds.
        "image.finding_f1",
    }
    assert evaluation["goals"]["vqgan.ms_ssim"]["met"] is None
    assert evaluation["goals"]["image.wrong_length_rate"]["met"] is True
    assert "| Images of a wrong length | 0.000 (0.000 to 0.000) |" in (
        settings.output / "evaluation.md"
    ).read_text(encoding="utf-8")
    assert str(settings.output) not in json.dumps(evaluation)


def test_a_perfect_writer_beats_the_baselines(
    checkpoint: Checkpoint, settings: Evaluation, evaluated_data: Path
) -> None:
    records = [json.loads(line) for line in evaluated_data.read_text().splitlines()]
    folder = settings.output.parent / "all-enlarged"
    folder.mkdir()
    said = {"findings": "The heart is enlarged.", "impression": "Cardiomegaly."}
    changed = [
        r
        | {"file": str(evaluated_data.parent / r["file"])}
        | (said if r["split"] == "test" else {})
        for r in records
    ]
    write_lines(folder / "manifest.jsonl", changed)
    data = JsonlData(manifest=folder / "manifest.jsonl")
    model = ScriptedModel(checkpoint)
    evaluate(checkpoint.path, settings.model_copy(update={"data": data}), lambda: model)
    metrics = read(settings.output / "metrics.json")
    assert metrics["report.bleu4"]["value"] == pytest.approx(1.0)
    assert metrics["report.label_micro_f1"]["value"] == pytest.approx(1.0)
    assert metrics["report.bleu4.over_constant"]["low"] > 0
    goals = read(settings.output / "evaluation.json")["goals"]
    # Everybody has the same report: another patient's is as good.
    assert goals["report.bleu4"]["met"] is False  # type: ignore[index]
    assert "image.finding_auroc" not in metrics


def test_a_killed_evaluation_goes_on(checkpoint: Checkpoint, settings: Evaluation) -> None:
    killed = ScriptedModel(checkpoint, answers=7)
    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint.path, settings, lambda: killed)
    assert not (settings.output / "metrics.json").exists()
    (answers,) = (settings.output / "work").glob("answers-*.jsonl")
    with answers.open("a") as file:
        file.write('{"key": "half a li')
    second = ScriptedModel(checkpoint)
    evaluate(checkpoint.path, settings, lambda: second)
    assert len(killed.asked) + len(second.asked) == 40 + 160
    first = (settings.output / "metrics.json").read_bytes()

    def nobody() -> ScriptedModel:
        raise AssertionError("everything is known")

    evaluate(checkpoint.path, settings, nobody)
    assert (settings.output / "metrics.json").read_bytes() == first
    # Other sampling is another question; reports are known.
    warmer = settings.model_copy(
        update={"image": settings.image.model_copy(update={"temperature": 1.0})}
    )
    third = ScriptedModel(checkpoint)
    evaluate(checkpoint.path, warmer, lambda: third)
    assert {q.prompt.task for q in third.asked} == {Task.IMAGE}
    assert len(third.asked) == 20


def test_val_is_measured_without_the_test_patients(
    checkpoint: Checkpoint, settings: Evaluation, evaluated_data: Path
) -> None:
    folder = settings.output.parent / "no-test"
    folder.mkdir()
    records = [json.loads(line) for line in evaluated_data.read_text().splitlines()]
    kept = [
        r | {"file": str(evaluated_data.parent / r["file"])}
        for r in records
        if r["split"] != "test"
    ]
    write_lines(folder / "manifest.jsonl", kept)
    config = settings.model_copy(
        update={
            "split": "val",
            "limit": 8,
            "data": JsonlData(manifest=folder / "manifest.jsonl"),
            "least_positives": 100,
        }
    )
    result = evaluate(checkpoint.path, config, lambda: ScriptedModel(checkpoint))
    assert result["settings"]["floor_split"] == "train"
    assert result["settings"]["radiographs"] == 8
    assert result["settings"]["language"]["text"] == "val.txt"
    assert "judge.auroc.macro" in result["not_measured"]
    assert result["goals"]["image.finding_auroc"]["met"] is None


def test_images_of_a_wrong_length_are_counted(checkpoint: Checkpoint, settings: Evaluation) -> None:
    model = ScriptedModel(checkpoint, image_length=3)
    result = evaluate(checkpoint.path, settings, lambda: model)
    assert result["metrics"]["image.wrong_length_rate"]["value"] == 1.0
    assert result["goals"]["image.wrong_length_rate"]["met"] is False
    assert "image.fd_judge" in result["not_measured"]


def test_reports_that_are_too_long_are_skipped(
    checkpoint: Checkpoint,
    settings: Evaluation,
    evaluated_data: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = records_of(evaluated_data)
    first = next(r for r in records if r["split"] == "test")
    first["findings"] = "The heart is enlarged. " * 200
    folder = settings.output.parent / "long"
    folder.mkdir()
    write_lines(folder / "manifest.jsonl", records)
    data = JsonlData(manifest=folder / "manifest.jsonl")
    model = ScriptedModel(checkpoint)
    result = evaluate(checkpoint.path, settings.model_copy(update={"data": data}), lambda: model)
    assert result["settings"]["asked_about"] == result["metrics"]["report.bleu4"]["n"] == 19
    assert asked(model, Task.REPORT) == asked(model, Task.IMAGE) == 19
    assert f"1 reports are too long and are skipped: {first['id']}" in caplog.text


def test_the_same_seed_is_the_same_question(checkpoint: Checkpoint, settings: Evaluation) -> None:
    alone, all_ = ScriptedModel(checkpoint), ScriptedModel(checkpoint)
    few = settings.model_copy(update={"limit": 5, "output": settings.output / "few"})
    evaluate(checkpoint.path, few, lambda: alone)
    evaluate(checkpoint.path, settings, lambda: all_)
    assert {q.key for q in alone.asked} < {q.key for q in all_.asked}
    other = settings.model_copy(update={"seed": 1})
    again = ScriptedModel(checkpoint)
    evaluate(checkpoint.path, other, lambda: again)
    # Answers to yes / no questions depend on no seed.
    assert len(again.asked) == 40


def test_what_cannot_be_measured_stops_at_the_start(
    checkpoint: Checkpoint, settings: Evaluation, tmp_path: Path, judge_folder: Path
) -> None:
    def nobody() -> ScriptedModel:
        raise AssertionError("nothing is asked")

    def fails(error: type[Exception], **changed: object) -> None:
        with pytest.raises(error):
            evaluate(checkpoint.path, settings.model_copy(update=changed), nobody)

    fails(InvalidCheckpoint, judge=tmp_path / "none")
    fails(DataError, base=tmp_path / "none.whl")
    fails(DataError, data=JsonlData(manifest=tmp_path / "none.jsonl"))
    fails(
        DataError,
        language=settings.language.model_copy(update={"test": tmp_path / "none.txt"}),
    )
    other = tmp_path / "other-judge"
    other.mkdir()
    (other / "judge.safetensors").symlink_to(judge_folder / "judge.safetensors")
    described = json.loads((judge_folder / "judge.json").read_text())
    described["preprocessing"]["geometry"] = "centre-crop"
    write_json(other / "judge.json", described)
    fails(DataError, judge=other)


def test_the_judge_that_picks_may_not_measure(
    checkpoint: Checkpoint, settings: Evaluation, tmp_path: Path, judge_folder: Path
) -> None:
    picks = with_judge(checkpoint.path, tmp_path / "picks", Judge.load(judge_folder))
    with pytest.raises(DataError, match="picks its images"):
        evaluate(picks, settings)


def test_perplexities_are_of_the_models(checkpoint: Checkpoint, settings: Evaluation) -> None:
    result = evaluate(checkpoint.path, settings, lambda: ScriptedModel(checkpoint))
    before, after = (result["metrics"][f"language.wikitext2_ppl_{k}"] for k in ("before", "after"))
    assert before["n"] == after["n"] == 399
    assert math.isfinite(before["value"])
    assert before["value"] != after["value"]
