"""Compute by arithmetic, mixtures of examples, smaller bases, answers without vLLM, figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import DataSet, MakeConfig, MakeModel, write_vqgan

from llmcxr_models.prompt import PromptBuilder, Task
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_training.ablation.bases import keep_every, make_base
from llmcxr_training.ablation.cases import measure_cell
from llmcxr_training.ablation.conclusions import conclusions, differs
from llmcxr_training.ablation.figures import difference, figures_of, value
from llmcxr_training.ablation.plain_generator import PlainGenerator
from llmcxr_training.ablation.report import markdown, plot
from llmcxr_training.ablation.settings import AblationError, Measure, Texts
from llmcxr_training.base_model import load_base
from llmcxr_training.compute import Budget, Shape, spend
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.instructions import (
    Example,
    ExampleSampler,
    MixedSampler,
    Mixing,
    PlainInstruction,
)
from llmcxr_training.language_model import ImageTextModel, Lora
from llmcxr_training.stage import finetune, grow
from llmcxr_training.trained_vqgan import TrainedVqGan


@dataclass(frozen=True)
class Counted:
    """Examples whose length is their number, plus one."""

    mark: int = 0

    def __len__(self) -> int:
        return 10

    def draw(self, seed: int, number: int) -> Example:
        length = number + 1
        return Example(Task.REPORT, [self.mark] * length, [0.0] + [1.0] * (length - 1))


@pytest.fixture
def shape() -> Shape:
    return Shape(2, 8, 1000, 100, text_rows=50, codes=16, is_whole=False)


def test_a_budget_is_met_as_nearly_as_whole_steps_allow(shape: Shape) -> None:
    # Steps of two sequences: 3, 7, 11, 15 tokens; 3, 10, 21, 36 in all.
    for amount, steps in ((1, 1), (10, 2), (15, 2), (16, 3), (28, 3), (29, 4)):
        budget = Budget(unit="tokens", amount=amount)
        spent = spend(budget, Counted(), shape, seed=0, batch_size=2)
        assert spent.steps == steps, amount
        assert spent.sequences == 2 * steps
        assert spent.tokens == spent.sequences * (spent.sequences + 1) / 2


def test_the_arithmetic_of_a_sequence(shape: Shape) -> None:
    # Ten tokens: the first three of no weight, then four of text and three of an image.
    example = Example(Task.IMAGE, [1] * 7 + [50, 51, 52], [0.0] * 3 + [1.0] * 7)
    frozen = 10 * (4 * 1000 + 6 * 100) + 6 * 100 * 8 * 2 + 4 * 4 * 8 * 50 + 6 * 3 * 8 * 16
    assert shape.flops(example) == frozen
    spent = spend(Budget(unit="flops", amount=1), Counted(), shape, seed=0, batch_size=1)
    assert spent.flops == shape.flops(Counted().draw(0, 0))


def test_the_shape_of_a_model(make_config: MakeConfig) -> None:
    config = make_config()
    trained = TrainedVqGan.load(config.vqgan)
    for lora, adapters in ((None, False), (Lora(rank=4, alpha=8), True)):
        grown = grow(config.base, trained.vqgan, config.template, config.output)
        shape = Shape.of(ImageTextModel(grown.model, grown.vocabulary, lora))
        # 2 layers of attention (32x32 twice, 32x16 twice) and a gated network of 3 x 32x64.
        assert shape.layer_weights == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
        assert (shape.layers, shape.width, shape.codes) == (2, 32, 16)
        assert bool(shape.adapter_weights) is adapters
        assert shape.is_whole is not adapters


def test_a_run_with_a_budget_says_what_it_computes(make_config: MakeConfig) -> None:
    run = finetune(make_config(budget=Budget(amount=500), lora=None))
    assert run.step == run.config.steps > 0
    said = (run.config.output / "compute.json").read_text()
    assert f'"steps": {run.step}' in said
    assert abs(_number(said, "tokens") - 500) < 200


def _number(text: str, name: str) -> float:
    return float(text.split(f'"{name}": ')[1].split(",")[0].split("\n")[0])


def test_a_mixture_draws_its_share_from_each() -> None:
    mixed = MixedSampler(Counted(0), Counted(1), 0.25)
    marks = [mixed.draw(3, number).token_ids[0] for number in range(400)]
    assert 0.17 < sum(marks) / len(marks) < 0.33
    assert marks == [mixed.draw(3, number).token_ids[0] for number in range(400)]
    assert len(mixed) == 10


def test_self_written_instructions_have_their_share(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    run = finetune(make_config(steps=1))
    builder = run.training.builder  # type: ignore[attr-defined]
    studies = run.config.data.studies(("train",))
    plain, own = [PlainInstruction("a", "", "yes")], [PlainInstruction("a", "", "no")]

    def share(self_share: float | None) -> float:
        mixing = Mixing(image_to_text=0, report_to_image=0, instructions=1, self_share=self_share)
        images = run.training.images  # type: ignore[attr-defined]
        sampler = ExampleSampler(studies, images, plain, builder, mixing, 400, own)
        mine = builder.text_answer("no")
        drawn = [sampler.draw(0, number).token_ids[-len(mine) :] for number in range(100)]
        return sum(ids == mine for ids in drawn) / 100

    assert share(0.0) == 0
    assert share(1.0) == 1
    assert 0.15 < share(0.3) < 0.45
    assert 0.35 < share(None) < 0.65


def test_each_kth_layer_is_kept(make_model: MakeModel) -> None:
    model = make_model("llama", 40)
    first = model.model.layers[0]
    keep_every(model, 2)
    assert list(model.model.layers) == [first]
    assert model.config.num_hidden_layers == 1
    with pytest.raises(AblationError, match="no every-2 of 1 layers"):
        keep_every(model, 2)


def test_bases_are_made_once(base_folder: Path, tmp_path: Path) -> None:
    def made(level: str, seed: int = 0) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"{level}-{seed}"
        make_base(base_folder, level, folder, seed=seed, scratch=tmp_path)
        assert make_base(tmp_path / "gone", level, folder, seed=seed, scratch=tmp_path) == folder
        model, tokenizer = load_base(folder, tmp_path)
        assert len(tokenizer)
        return model.state_dict()

    source = load_base(base_folder, tmp_path)[0].state_dict()
    cut, drawn, other = made("every-2"), made("scratch-every-2"), made("scratch-every-2", 1)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(cut[name], source[name])
    assert set(cut) == set(drawn) < set(source)
    assert not torch.equal(drawn[name], cut[name])
    assert not torch.equal(drawn[name], other[name])
    assert all(torch.equal(value, made("whole")[key]) for key, value in source.items())


@pytest.fixture
def asked(make_config: MakeConfig) -> tuple[ImageTextModel, PromptBuilder]:
    run = finetune(make_config(steps=2))
    tokenizer = TextTokenizer(run.config.output / "tokenizer" / "tokenizer.json")
    builder = PromptBuilder(run.config.template, run.model.vocabulary, tokenizer)
    return run.model.eval(), builder


@torch.no_grad()
def test_answers_are_those_of_the_model_step_by_step(
    asked: tuple[ImageTextModel, PromptBuilder],
) -> None:
    model, builder = asked
    prompt = builder.report([0] * 16, max_tokens=6)
    questions = [
        Question(builder.report([code] * 16, max_tokens=6), 0.0, 1.0, 0) for code in (0, 1, 2)
    ]
    questions.append(Question(builder.image("Effusion."), 0.0, 1.0, 0))
    answers = dict(PlainGenerator(model, 2).generate(questions))
    assert sorted(answers) == [0, 1, 2, 3]
    token_ids = list(prompt.token_ids)
    stops = model.vocabulary.stop_token_ids
    for place, token_id in enumerate(answers[0]):
        logits = model.text_logits(model.hidden_states(torch.tensor([token_ids]))[0, -1])
        if not place:
            logits[list(stops)] = -torch.inf
        assert int(logits.argmax()) == token_id
        token_ids.append(token_id)
    assert len(answers[0]) == 6 or answers[0][-1] in stops
    assert len(model.vocabulary.to_codes(answers[3])) == 16


@torch.no_grad()
def test_drawing_depends_on_the_question_alone(
    asked: tuple[ImageTextModel, PromptBuilder],
) -> None:
    model, builder = asked
    questions = [Question(builder.image("Effusion."), 1.0, 0.9, seed) for seed in range(3)]
    together = dict(PlainGenerator(model, 3).generate(questions))
    alone = [dict(PlainGenerator(model, 1).generate([q]))[0] for q in questions]
    assert [together[number] for number in range(3)] == alone
    assert len(set(alone)) == 3
    narrow = [Question(builder.image("Effusion."), 1.0, 1e-9, seed) for seed in range(2)]
    assert len({ids for _, ids in PlainGenerator(model, 2).generate(narrow)}) == 1
    (known,) = PlainGenerator(model, 2).log_probabilities(
        [Question(builder.yes_or_no([0] * 16, "Effusion?"), 0.0, 1.0, 0)]
    )
    assert len(known[1]) == 2
    assert sum(map(math.exp, known[1])) < 1


def cases(shift: float, seed: int) -> dict[str, np.ndarray]:
    """Forty patients whose image loss is higher by `shift` nats a token."""
    rng, patients = np.random.default_rng(0), np.array([f"p{n}" for n in range(40)])
    noise = np.random.default_rng(seed + 1).normal(0, 0.01, 40)
    base = 5 + rng.normal(0, 0.5, 40) + noise
    return {
        "loss.patients": patients,
        "loss.image_nll": (base + shift) * 16,
        "loss.image_tokens": np.full(40, 16),
        "loss.text_nll": base * 8,
        "loss.text_tokens": np.full(40, 8),
        "language.nll": np.full(4, 10.0),
        "language.before": np.full(4, 9.0),
        "language.tokens": np.full(4, 10),
    }


def test_figures_are_paired_over_seeds_and_patients() -> None:
    measure = Measure.model_validate({"texts": {"val": "v", "test": "t"}, "resamples": 200})
    first, second = [cases(0, s) for s in (0, 1)], [cases(0.1, s) for s in (2, 3)]
    figures = {figure.key: figure for figure in figures_of(first[0], measure)}
    assert set(figures) == {
        *("image_loss", "image_nats", "text_loss", "perplexity", "perplexity_ratio")
    }
    loss = value(figures["image_loss"], first, measure)
    assert loss.interval.value == pytest.approx(np.mean(loss.seeds))
    gap = difference(figures["image_loss"], second, first, measure)
    assert gap.interval.value == pytest.approx(0.1, abs=0.01)
    # Patients differ far more than the two do: only pairs tell them apart.
    assert gap.interval.low > 0.08
    assert loss.interval.high - loss.interval.low > 0.1
    ratio = value(figures["perplexity_ratio"], first, measure)
    assert ratio.interval.value == pytest.approx(math.exp(0.1))


def gap(low: float | None, high: float | None, *seeds: float) -> dict[str, object]:
    return {"value": sum(seeds) / len(seeds), "low": low, "high": high, "seeds": list(seeds)}


def test_a_difference_counts_by_patients_and_by_every_seed() -> None:
    assert differs(gap(0.1, 0.3, 0.2, 0.2))
    assert differs(gap(-0.3, -0.1, -0.2, -0.2))
    assert not differs(gap(-0.1, 0.3, 0.2, 0.2))
    assert not differs(gap(0.1, 0.3, 0.5, -0.1))
    assert not differs(gap(None, None, 0.2, 0.2))


def test_the_words_follow_the_numbers() -> None:
    entry = {"value": 2.0, "low": 1.0, "high": 3.0, "n": 9, "seeds": [2.0, 2.0]}
    results = {
        "split": "val",
        "seeds": [0, 1],
        "budget": {"unit": "tokens", "amount": 1e6},
        "reference": "stages 1",
        "fixed": {"refined": 0.5},
        "cells": {"done": 4, "all": 6},
        "figures": {"image_loss": {"title": "image loss", "lower_is_better": True}},
        "rows": [
            {"label": label, "levels": {}, "compute": [], "figures": {"image_loss": found}}
            for label, found in (
                ("stages 1", entry),
                ("stages 2", entry | {"difference": gap(-0.3, -0.1, -0.2, -0.2)}),
                ("stages 3", entry | {"difference": gap(-0.3, 0.1, -0.2, -0.2)}),
            )
        ],
    }
    said = conclusions(results)
    assert "against stages 1: better: stages 2, not told apart: stages 3." in said
    assert "cannot go below p = 0.5" in said
    assert "2 comparisons" in said
    for row in results["rows"]:
        row["compute"] = [{"steps": 10, "tokens": 1e6, "flops": 1e14}]
    table = markdown(results)
    assert "| image loss ↓ | 2 (1 to 3); 2, 2 | **2** (1 to 3); 2, 2 | 2 (1 to 3); 2, 2 |" in table
    assert "4 of 6 cells" in table
    assert table.startswith("All cells: refined 0.5. Split `val`, seeds 0, 1")
    assert plot(results).startswith("<?xml")


def test_a_vqgan_of_64_codes_has_one_level_more() -> None:
    from llmcxr_training.config_file import read_config
    from llmcxr_training.vqgan_settings import VqGanTraining

    folder = Path(__file__).parents[3] / "training/configs"
    small = read_config(folder / "vqgan-64.toml", VqGanTraining, [])
    demo = read_config(folder / "vqgan-demo.toml", VqGanTraining, [])
    sides = [
        run.architecture.image_size // 2 ** (len(run.architecture.channel_multipliers) - 1)
        for run in (small, demo)
    ]
    assert sides == [8, 16]


def test_codes_of_both_sets_are_made(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        vqgan=write_vqgan(tmp_path / "own-vqgan"),
        refinement={"views": ["frontal"]},
        refined={"views": ["frontal"], "first_study_only": True},
        refined_share=0.5,
        steps=1,
    )
    assert finetune(type(config).model_validate(config.model_dump())).step == 1


def test_what_is_measured_in_bfloat16_is_the_trained_model(
    make_config: MakeConfig, data_set: DataSet, tmp_path: Path
) -> None:
    """Autocast keeps copies of weights; those of the model before training are not wanted."""
    trained = {"lora": None, "steps": 15, "learning_rate": 1e-2, "image_learning_rate": 1e-2}
    config = make_config(precision="bfloat16", **trained)
    finetune(config)
    text = tmp_path / "text.txt"
    text.write_text("The heart is normal in size. " * 40)
    measure = Measure(
        texts=Texts(val=text, test=text), text_tokens=256, text_window=64, reports=0, images=0
    )
    found = [
        measure_cell(config.model_copy(update={"precision": p}), measure, "val", tmp_path)
        for p in ("float32", "bfloat16")
    ]
    for name in ("language.nll", "loss.image_nll", "loss.text_nll"):
        exact, rounded = (np.asarray(arrays[name], np.float64) for arrays in found)
        np.testing.assert_allclose(rounded, exact, rtol=0.02)
