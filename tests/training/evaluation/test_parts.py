"""Goals, table, card and marginals by themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeModel
from tests.training.evaluation.conftest import ScriptedModel

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.__main__ import main
from llmcxr_training.data import DataError
from llmcxr_training.evaluation.card import BEGIN, END, write_card
from llmcxr_training.evaluation.cohort import trained_sections
from llmcxr_training.evaluation.figures import Figures, read_figures
from llmcxr_training.evaluation.goals import GOALS, judged
from llmcxr_training.evaluation.language_measures import parts
from llmcxr_training.evaluation.marginals import from_marginals, from_position_marginals
from llmcxr_training.evaluation.run import evaluate
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.metrics.intervals import Interval
from llmcxr_training.metrics.perplexity import text_loss


def exactly(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, 10)


REACHED = {
    "vqgan.psnr_db": 26.0,
    "vqgan.ms_ssim": 0.85,
    "vqgan.codebook_usage": 0.8,
    "vqgan.high_frequency_ratio": 1.5,
    "judge.auroc.macro": 0.75,
    "vqgan.judge_auroc_reconstructed": 0.7,
    "vqgan.judge_auroc_difference": -0.05,
    **{f"report.{n}": 0.5 for n in ("label_micro_f1", "label_macro_f1", "bleu4", "rouge_l")},
    **{
        f"report.{b}.{n}": 0.4
        for b in ("constant", "shuffled")
        for n in ("label_micro_f1", "label_macro_f1", "bleu4", "rouge_l")
    },
    "image.fd_judge": 0.9,
    "image.fd_judge.marginals": 2.0,
    "image.recall": 0.1,
    "image.finding_auroc": 0.65,
    "language.wikitext2_ppl_ratio": 1.1,
    "image.wrong_length_rate": 0.0,
}
MISSED = [
    ("vqgan.psnr_db", "vqgan.psnr_db", 25.9),
    ("vqgan.high_frequency_ratio", "vqgan.high_frequency_ratio", 0.4),
    ("vqgan.high_frequency_ratio", "vqgan.high_frequency_ratio", 1.6),
    ("vqgan.judge_auroc_reconstructed", "vqgan.judge_auroc_difference", 0.06),
    ("report.bleu4", "report.shuffled.bleu4", 0.485),
    ("report.rouge_l", "report.constant.rouge_l", 0.6),
    ("image.fd_judge", "image.fd_judge", 1.0),
    ("image.recall", "image.recall", 0.09),
    ("language.wikitext2_ppl_ratio", "language.wikitext2_ppl_ratio", 1.11),
    ("image.wrong_length_rate", "image.wrong_length_rate", 0.001),
]


def test_goals_that_are_just_reached() -> None:
    values = {key: exactly(value) for key, value in REACHED.items()}
    assert {key: found["met"] for key, found in judged(values).items()} == {
        goal.key: True for goal in GOALS
    }


@pytest.mark.parametrize(("goal", "key", "value"), MISSED)
def test_a_goal_that_is_missed(goal: str, key: str, value: float) -> None:
    values = {k: exactly(v) for k, v in (REACHED | {key: value}).items()}
    missed = {k for k, found in judged(values).items() if found["met"] is False}
    assert missed == {goal}


def test_what_was_not_measured_is_no_miss() -> None:
    assert {found["met"] for found in judged({}).values()} == {None}


def test_figures_survive_json() -> None:
    figures = Figures()
    figures.add("a", Interval(1.23456789, 1.0, float("nan"), 3))
    figures.add("b", Interval(float("nan"), 0.0, 1.0, 3))
    figures.add_share("c", Interval(0.9, -0.2, 1.2, 3))
    figures.add_distance("d", Interval(7.0, -0.2, 9.0, 3))
    stored = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert stored["a"] == {"value": 1.234568, "low": 1.0, "high": None, "n": 3}
    assert "b" not in stored
    assert "b" in figures.not_measured
    assert read_figures(stored)["c"] == Interval(0.9, 0.0, 1.0, 3)
    assert read_figures(stored)["d"] == Interval(7.0, 0.0, 9.0, 3)
    assert np.isnan(read_figures(stored)["a"].high)


def test_marginals() -> None:
    # Position 0 is always 3, position 1 is 1 or 2 alike.
    train = np.array([[3, 1], [3, 2]] * 50, np.uint16)
    by_position = from_position_marginals(train, 400, seed=0)
    assert set(by_position[:, 0].tolist()) == {3}
    assert 150 < (by_position[:, 1] == 1).sum() < 250
    anywhere = from_marginals(train, 400, seed=0)
    assert anywhere.shape == (400, 2)
    assert anywhere.dtype == np.uint16
    assert 300 < (anywhere == 3).sum() < 500
    assert 100 < (anywhere[:, 0] == 1).sum() + (anywhere[:, 0] == 2).sum() < 300
    assert np.array_equal(anywhere, from_marginals(train, 400, seed=0))
    assert not np.array_equal(anywhere, from_marginals(train, 400, seed=1))


@pytest.mark.parametrize("length", [2, 63, 64, 65, 200, 224, 225, 500])
def test_parts_of_a_text_are_scored_as_the_whole(make_model: MakeModel, length: int) -> None:
    model = make_model("llama", 50)
    ids = torch.randint(50, (length,), generator=torch.Generator().manual_seed(1))
    whole = text_loss(model, ids, window=64, stride=32).nll
    pieces = [
        text_loss(model, ids[begin:end], window=64, stride=32).nll[dropped:]
        for begin, end, dropped in parts(length, 64, 32, strides=5)
    ]
    assert len(pieces) == 1 + (length > 224) + (length > 384)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_sections_are_those_of_training(checkpoint_path: Path) -> None:
    manifest = Checkpoint.open(checkpoint_path).manifest
    assert trained_sections(manifest, None) == "both"
    manifest.provenance["finetuning"]["refinement"] = {"sections": "impression"}
    assert trained_sections(manifest, None) == "impression"
    assert trained_sections(manifest, "both") == "both"


def test_card(
    checkpoint_path: Path,
    settings: Evaluation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Checkpoint.open(checkpoint_path)
    card = settings.output.parent / "README.md"
    card.write_text(f"# Card\n\n{BEGIN}\n{END}\n\n## Afterwards\n")
    with pytest.raises(DataError, match="finished"):
        write_card(settings.output, card)
    evaluate(checkpoint_path, settings, lambda: ScriptedModel(checkpoint))
    write_card(settings.output, card)
    once = card.read_text()
    assert once.startswith("# Card\n")
    assert once.endswith(f"{END}\n\n## Afterwards\n")
    assert "| Reports, BLEU-4 |" in once
    assert "`test` split" in once
    monkeypatch.setattr("sys.argv", ["llmcxr-train", "card", str(settings.output), str(card)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert card.read_text() == once
    assert (card.parent / "metrics.json").read_bytes() == (
        settings.output / "metrics.json"
    ).read_bytes()
    card.write_text("# No place\n")
    with pytest.raises(DataError, match="no place"):
        write_card(settings.output, card)
    assert card.read_text() == "# No place\n"


@pytest.mark.vllm
def test_a_real_vllm_answers_within_the_constraint(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    asked = subprocess.run(
        [sys.executable, str(script), str(root / "checkpoints" / "demo")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr[-4000:]
    assert asked.stdout.splitlines()[-1] == "as it should be"


ASK = """
import sys
from pathlib import Path
import torch
from llmcxr_models.checkpoint import Checkpoint
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.evaluation.settings import Engine
from llmcxr_training.evaluation.vllm_generator import VllmGenerator

checkpoint = Checkpoint.open(Path(sys.argv[1]))
builder, vocabulary = checkpoint.load_prompts(), checkpoint.manifest.vocabulary
report = builder.report(list(range(vocabulary.image_length)), max_tokens=12)
image = builder.image("Findings: The heart is enlarged.")
questions = [Question(report, 0.0, 1.0, 1), Question(image, 0.85, 0.92, 2)]
# Together more than one step takes: no seeded prompt may be read in parts.
long = builder.image("The heart is enlarged. " * 240)
assert 4 * len(long.token_ids) > 4096
questions += questions + [Question(long, 0.85, 0.92, seed) for seed in range(4)]
model = VllmGenerator(checkpoint, Engine(max_num_seqs=8, kv_cache_gib=0.25), torch.bfloat16)
answers = dict(model.generate(questions))
assert sorted(answers) == list(range(8))
assert {len(answers[number]) for number in (1, 3, 4, 5, 6, 7)} == {vocabulary.image_length}
assert answers[0] == answers[2] and 0 < len(answers[0]) <= 12
assert not set(answers[0]) & set(vocabulary.image_token_ids)
assert len(vocabulary.to_codes(answers[1])) == vocabulary.image_length
asked = [builder.yes_or_no(list(range(vocabulary.image_length)), "Is there cardiomegaly?")]
asked += [builder.yes_or_no([7] * vocabulary.image_length, "Is this radiograph normal?")]
looks = [Question(prompt, 0.0, 1.0, 0) for prompt in asked * 2]
found = dict(model.log_probabilities(looks))
assert sorted(found) == [0, 1, 2, 3]
assert all(len(pair) == 2 and max(pair) < 0 for pair in found.values())
assert found[0] != found[1] and max(abs(a - b) for a, b in zip(found[0], found[2])) < 0.2
print("as it should be")
"""
