"""Training examples: framed prompts with their answers, mixed by sampling probability.

40 % radiograph to text, 40 % report to radiograph, 20 % plain instructions (arXiv 2305.11490,
section 3.2). An example depends on the seed and its number only, so a resumed run continues
with the examples that an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llmcxr_models.prompt import IMAGE_INSTRUCTIONS, REPORT_INSTRUCTIONS, PromptBuilder, Task
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.questions import draw_questions, is_indexed, is_normal

_MAX_DRAWS = 1000


class Mixing(BaseModel):
    """How often each kind of example is drawn.

    Attributes:
        image_to_text: reports of, and questions about, a radiograph.
        report_to_image: radiographs of a report.
        instructions: natural language.
        question_share: part of `image_to_text` that are questions.
        normal_share: chance of drawing from the studies indexed as normal; None leaves it to
            their number. Without it a small model learns to say only "normal".
        indication_share: part of the report prompts that state the indication, where known.
        prompt_image_weight: loss weight of an *input* image's tokens. 0 is the paper; above 0
            the model also learns what radiographs look like from the images that it reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_to_text: float = 0.4
    report_to_image: float = 0.4
    instructions: float = 0.2
    question_share: float = 0.3
    questions_per_image: int = Field(default=4, ge=1)
    normal_share: float | None = 0.35
    indication_share: float = 0.3
    prompt_image_weight: float = 0.0


@dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
        task: what it teaches.
        token_ids: prompt and answer.
        weights: loss weight of each token as a target; 0 for the prompt.
    """

    task: Task
    token_ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class PlainInstruction:
    """An instruction in natural language with its answer."""

    instruction: str
    input: str
    output: str


def read_instructions(path: Path) -> list[PlainInstruction]:
    """Read JSONL in the layout of self-instruct or of databricks-dolly-15k.

    The first has `instruction` and `instances` of `input` and `output`, the second
    `instruction`, `context` and `response`. Instructions without an answer are left out.

    Raises:
        DataError: no such file, or a malformed line.
    """
    try:
        # Not splitlines(): JSON may hold line separators of Unicode, unescaped.
        lines = path.read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in lines if line.strip()]
        found = [instruction for record in records for instruction in _instructions(record)]
        return [instruction for instruction in found if instruction.output.strip()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no instructions: {type(error).__name__}") from error


def _instructions(record: dict[str, Any]) -> list[PlainInstruction]:
    if "response" in record:
        texts = (record["instruction"], record["context"], record["response"])
        return [PlainInstruction(*texts)]
    return [
        PlainInstruction(record["instruction"], instance["input"], instance["output"])
        for instance in record["instances"]
    ]


class ExampleSampler:
    """Draws examples.

    Args:
        studies: with a report; only their ids in `images` are used.
        images: codes of the studies.
        plain: natural-language instructions.
        builder: frames prompts.
        mixing: how often what.
        max_tokens: longer examples are drawn again.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        images: EncodedImages,
        plain: Sequence[PlainInstruction],
        builder: PromptBuilder,
        mixing: Mixing,
        max_tokens: int,
    ) -> None:
        self._row = {id_: row for row, id_ in enumerate(images.ids)}
        self._codes = images.codes
        usable = [s for s in studies if s.id in self._row and not s.report.is_empty]
        self._normal = [s for s in usable if is_normal(s)]
        self._other = [s for s in usable if not is_normal(s)]
        self._plain = list(plain)
        self._builder = builder
        self._mixing = mixing
        self._max_tokens = max_tokens
        if not usable or (mixing.instructions > 0 and not self._plain):
            raise DataError("there is nothing to draw examples from")

    def __len__(self) -> int:
        return len(self._normal) + len(self._other)

    def draw(self, seed: int, number: int) -> Example:
        """Example `number` of a run with `seed`.

        Raises:
            DataError: hardly any example is short enough.
        """
        rng = random.Random(f"{seed}/{number}")  # noqa: S311  not for secrets
        for _ in range(_MAX_DRAWS):
            example = self._draw(rng)
            if len(example.token_ids) <= self._max_tokens:
                return example
        raise DataError(f"of {_MAX_DRAWS} drawn, no example has at most {self._max_tokens} tokens")

    def _draw(self, rng: random.Random) -> Example:
        mixing = self._mixing
        shares = (mixing.image_to_text, mixing.report_to_image, mixing.instructions)
        kind = rng.choices(("text", "image", "plain"), shares)[0]
        if kind == "plain":
            return self._plain_example(rng)
        study = self._draw_study(rng)
        codes = self._codes[self._row[study.id]]
        version = codes[rng.randrange(len(codes))].tolist()
        if kind == "image":
            return self._image_example(study, version, rng)
        if rng.random() < mixing.question_share and is_indexed(study):
            return self._question_example(study, version, rng)
        return self._report_example(study, version, rng)

    def _draw_study(self, rng: random.Random) -> Study:
        share = self._mixing.normal_share
        if share is None or not self._normal or not self._other:
            return rng.choice(self._normal + self._other)
        return rng.choice(self._normal if rng.random() < share else self._other)

    def _report_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        stated = rng.random() < self._mixing.indication_share
        prompt = self._builder.report(
            codes,
            indication=study.indication if stated else "",
            paraphrase=rng.randrange(len(REPORT_INSTRUCTIONS)),
        )
        answer = self._builder.text_answer(study.report.text)
        return self._example(prompt.task, [(prompt.token_ids, answer)])

    def _question_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        """The image once, then several questions: it is paid for once."""
        questions = draw_questions(study, self._mixing.questions_per_image, rng)
        turns: list[tuple[Sequence[int], list[int]]] = []
        for number, (question, answer) in enumerate(questions):
            prompt = self._builder.question(codes, question)
            frame = prompt.token_ids if number == 0 else self._builder.next_turn(question)
            turns.append((frame, self._builder.text_answer(answer)))
        return self._example(Task.QUESTION, turns)

    def _image_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        prompt = self._builder.image(
            study.report.text, paraphrase=rng.randrange(len(IMAGE_INSTRUCTIONS))
        )
        return self._example(prompt.task, [(prompt.token_ids, self._builder.image_answer(codes))])

    def _plain_example(self, rng: random.Random) -> Example:
        chosen = rng.choice(self._plain)
        prompt = self._builder.instruction(chosen.instruction, chosen.input)
        answer = self._builder.text_answer(chosen.output)
        return self._example(prompt.task, [(prompt.token_ids, answer)])

    def _example(self, task: Task, turns: Sequence[tuple[Sequence[int], list[int]]]) -> Example:
        image_ids = self._builder.vocabulary.image_token_ids
        token_ids: list[int] = []
        weights: list[float] = []
        for prompt, answer in turns:
            token_ids += [*prompt, *answer]
            weights += [self._mixing.prompt_image_weight if i in image_ids else 0.0 for i in prompt]
            weights += [1.0] * len(answer)
        return Example(task, token_ids, weights)
