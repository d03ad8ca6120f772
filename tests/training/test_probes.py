"""What fine-tuning is steered by: answers to questions, and the price in language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeConfig, write_lines, write_record
from tests.training.test_processes import logged

from llmcxr_training.data import DataError
from llmcxr_training.datasets import JsonlData
from llmcxr_training.instructions import Mixing
from llmcxr_training.language_model import ImageTextModel
from llmcxr_training.probes import QuestionProbe
from llmcxr_training.questions import FINDING_QUESTIONS, NORMAL_QUESTIONS
from llmcxr_training.stage import finetune


def many(folder: Path) -> JsonlData:
    """Sixty studies; those of the val split are enough for an AUROC."""
    folder.mkdir()
    split = {n: "train" if n < 15 else "val" for n in range(60)}
    write_lines(folder / "m.jsonl", [write_record(folder, n, split=split[n]) for n in split])
    return JsonlData(manifest=folder / "m.jsonl")


def test_both_figures_are_logged(make_config: MakeConfig, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The heart is normal in size. " * 400)
    settings = make_config(
        data=many(tmp_path / "data"),
        mixing=Mixing(share_image=True, questions_per_image=8, question_weight=4.0),
        steps=4,
        learning_rate=1e-2,
        validate_every_steps=2,
        question_images=45,
        language_text=text,
    )
    finetune(settings)
    curves = logged(settings.output)
    names = {"normal", "cardiomegaly", "pleural effusion", "macro"}
    assert {f"val_question_auroc/{n}" for n in names} < set(curves)
    assert all(0 <= v <= 1 for n in names for v in curves[f"val_question_auroc/{n}"])
    ratios = curves["val_language_ppl_ratio"]
    assert len(ratios) == 2
    assert all(0 < ratio != 1 for ratio in ratios)


def test_at_first_the_language_is_the_base_model_s(make_config: MakeConfig, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("No acute abnormality. " * 400)
    run = finetune(make_config(steps=0, language_text=text))
    assert run.validate()["val_language_ppl_ratio"] == pytest.approx(1.0, abs=1e-6)
    text.write_text("short")
    with pytest.raises(DataError, match="fewer than 512"):
        finetune(make_config(steps=0, language_text=text))


def test_questions_are_scored_as_if_asked_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    run = finetune(make_config(data=many(tmp_path / "data"), steps=0, question_images=7))
    model: ImageTextModel = run.model
    for parameter in model.trained_state().values():
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    sampler = run.validation
    probe = QuestionProbe(sampler._other, sampler.images, sampler.builder, 7)
    assert not probe.targets[:, 0].any()  # those with findings come first
    scores = probe._scores(model, probe._sequences).detach()
    questions = [NORMAL_QUESTIONS[0], FINDING_QUESTIONS[0].format("cardiomegaly")]
    codes = sampler.images.codes[sampler.images.ids.index(sampler._other[3].id), 0].tolist()
    yes, no = (sampler.builder.text_answer(a)[0] for a in ("yes", "no"))
    for column, question in enumerate(questions):
        prompt = torch.tensor([sampler.builder.question(codes, question).token_ids])
        logits = model.text_logits(model.hidden_states(prompt)[0, -1]).detach()
        wanted = float(logits[yes] - logits[no])
        assert float(scores[3, column]) == pytest.approx(wanted, abs=1e-4)
    assert np.isfinite(scores.numpy()).all()
