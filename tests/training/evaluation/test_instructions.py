"""Held-out instructions: what passes, and how they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.training.conftest import MakeModel

from llmcxr_models.prompt import Constraint
from llmcxr_training.evaluation.held_out_tasks import (
    TASKS,
    in_capitals,
    in_small_letters,
    is_json_with,
    lines,
    matching,
    without,
    words,
)
from llmcxr_training.evaluation.instruction_following import greedy

GOOD = {
    "Answer with one word only: what is the capital of France?": "Paris",
    "What is 7 plus 5?": "7 plus 5 is 12.",
    "Answer only yes or no: can pigs fly?": "No.",
    "Count from 1 to 5.": "1, 2, 3, 4, 5",
    "Name three animals as a numbered list.": "1. Dog\n2. Cat\n3. Cow",
    "Write one sentence about the sea in capital letters only.": "THE SEA IS DEEP.",
    "Write one sentence about cats without any capital letter.": "cats sleep a lot.",
    "Describe snow without the word white.": "Snow is cold and soft.",
    "End your answer with the word goodbye.": "It was nice to meet you, goodbye.",
    "Answer with a JSON object with the keys name and age and nothing else.": (
        '```json\n{"name": "Peter", "age": 31}\n```'
    ),
}


@pytest.mark.parametrize("instruction", GOOD)
def test_a_right_answer_passes(instruction: str) -> None:
    (task,) = [task for task in TASKS if task.instruction == instruction]
    assert task.passes(GOOD[instruction])
    assert not task.passes("")
    assert not task.passes("I am a language model and I cannot say what the WHITE thing is, ok?")


def test_checks() -> None:
    assert matching(r"\bgreen\b")("It is Green.")
    assert not words(1, 3)("one two three four")
    assert lines(2, "[-*]")("Here:\n- one\n- two")
    assert not lines(2, "[-*]")("- one")
    assert not without("star")("")
    assert not in_capitals("Not all")
    assert not in_small_letters("123")
    assert not is_json_with("name")('{"name": 1, "age": 2}')
    assert not is_json_with("name")("[1]")


def test_nothing_passes_every_check_by_chance() -> None:
    assert len(TASKS) >= 40
    assert len({(task.instruction, task.input) for task in TASKS}) == len(TASKS)
    for answer in ("", "The heart is enlarged.", "yes " * 40):
        assert sum(task.passes(answer) for task in TASKS) < len(TASKS) / 4


def test_a_batch_answers_as_each_alone(make_model: MakeModel) -> None:
    model = make_model("llama", 60).eval()
    rng = torch.Generator().manual_seed(0)
    prompts = [torch.randint(60, (n,), generator=rng).tolist() for n in (3, 7, 12)]
    constraint = Constraint(None, range(40, 70), 1, 6, (2,))
    together = greedy(model, prompts, (2,), constraint)
    assert together == [greedy(model, [p], (2,), constraint)[0] for p in prompts]
    for answer in together:
        assert len(answer) <= 6
        assert not set(answer) & set(range(40, 60))
        assert 2 not in answer


def test_the_tasks_are_not_among_the_training_instructions() -> None:
    from llmcxr_training.self_instruct import _QUESTIONS

    asked = {task.instruction.lower() for task in TASKS}
    assert not asked & {question.lower() for question in _QUESTIONS}


@pytest.mark.data
def test_nor_among_the_public_ones() -> None:
    path = Path(__file__).resolve().parents[4] / "shared/data/text/user_oriented_instructions.jsonl"
    if not path.is_file():
        pytest.skip("the instructions are not here")
    records = path.read_text(encoding="utf-8").split("\n")
    public = {json.loads(line)["instruction"].lower() for line in records if line}
    assert not {task.instruction.lower() for task in TASKS} & public
