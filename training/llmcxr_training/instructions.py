"""Training examples: framed prompts with their answers, mixed by sampling probability.

40 % radiograph to text, 40 % report to radiograph, 20 % plain instructions (arXiv 2305.11490,
section 3.2). An example depends on the seed and its number only, so a resumed run continues
with the examples that an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from llmcxr_models.mentions import affirmed
from llmcxr_models.prompt import (
    IMAGE_INSTRUCTIONS,
    REPORT_INSTRUCTIONS,
    Prompt,
    PromptBuilder,
    Task,
)
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.questions import FINDINGS, draw_questions, is_indexed, is_normal, present

_MAX_DRAWS = 1000


class Mixing(BaseModel):
    """How often each kind of example is drawn.

    Attributes:
        image_to_text: reports of, and questions about, a radiograph.
        report_to_image: radiographs of a report.
        instructions: natural language.
        statements: reports of stated findings alone, without a radiograph: to follow statements
            is learnt from text, at a fifth of the price.
        question_share: part of `image_to_text` that are questions.
        share_image: whether a report and questions about its image are one sequence, in branches;
            `question_share` is then the part without the report. Only for templates that put the
            image first.
        question_weight: loss weight of the answers to yes / no questions in branches; they are
            short, and count for little beside a report.
        normal_share: chance of drawing from the studies indexed as normal; None leaves it to
            their number. Without it a small model learns to say only "normal".
        finding_share: chance that a study that is not normal is drawn by first drawing one of
            the findings that can be asked for; rare findings are then seen as often as others.
        indication_share: part of the report prompts that state the indication, where known.
        stated_share: part of the report prompts that state which findings the report affirms,
            as the service states what the model itself has answered (docs/decisions/0018).
        self_share: part of `instructions` that the base model wrote itself, where a run has such;
            None leaves it to their number.
        prompt_image_weight: loss weight of an *input* image's tokens. 0 is the paper; above 0
            the model also learns what radiographs look like from the images that it reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_to_text: float = 0.4
    report_to_image: float = 0.4
    instructions: float = 0.2
    statements: float = Field(default=0.0, ge=0.0)
    question_share: float = 0.3
    share_image: bool = False
    questions_per_image: int = Field(default=4, ge=1)
    question_weight: float = 1.0
    normal_share: float | None = 0.35
    finding_share: float = 0.0
    indication_share: float = 0.3
    stated_share: float = Field(default=0.0, ge=0.0, le=1.0)
    self_share: float | None = Field(default=None, ge=0.0, le=1.0)
    prompt_image_weight: float = 0.0


@dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
        task: what it teaches.
        token_ids: prompt and answer.
        weights: loss weight of each token as a target; 0 for the prompt.
        branches: empty, or a number for each token: 0 for the trunk, which comes first, then 1,
            2, ... for what may look at the trunk and at itself, but not at the other branches.
            Several answers about one image are learnt as if each stood alone behind it, and the
            image is paid for once.
    """

    task: Task
    token_ids: list[int]
    weights: list[float]
    branches: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class PlainInstruction:
    """An instruction in natural language with its answer; or plain text, without instruction.

    Attributes:
        instruction: what is asked; empty where `output` is plain text.
        input: what it is asked about; may be empty.
        output: the answer.
        is_cut: whether the answer goes on, so that no ending is taught.
    """

    instruction: str
    input: str
    output: str
    is_cut: bool = False


def read_instructions(path: Path) -> list[PlainInstruction]:
    """Read JSONL in the layout of self-instruct or of databricks-dolly-15k.

    The first has `instruction` and `instances` of `input` and `output`, the second
    `instruction`, `context` and `response`; `self_instruct` adds `cut`, and lines of plain
    `text`. Instructions without an answer are left out.

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
    is_cut = bool(record.get("cut", False))
    if "text" in record:
        return [PlainInstruction("", "", record["text"], is_cut)]
    if "response" in record:
        texts = (record["instruction"], record["context"], record["response"])
        return [PlainInstruction(*texts, is_cut)]
    return [
        PlainInstruction(record["instruction"], instance["input"], instance["output"])
        for instance in record["instances"]
    ]


class Examples(Protocol):
    """What a run draws its examples from."""

    def __len__(self) -> int:
        """Radiographs that are drawn from."""
        ...

    def draw(self, seed: int, number: int) -> Example:
        """Example `number` of a run with `seed`."""
        ...


@dataclass(frozen=True)
class MixedSampler:
    """Draws from one sampler or another, by chance.

    Attributes:
        first: drawn from in all other cases.
        second: drawn from with probability `share`.
        share: in [0, 1].
    """

    first: Examples
    second: Examples
    share: float

    def __len__(self) -> int:
        return len(self.first)

    def draw(self, seed: int, number: int) -> Example:
        """Example `number` of a run with `seed`."""
        rng = random.Random(f"{seed}/{number}/which")  # noqa: S311  not for secrets
        return (self.second if rng.random() < self.share else self.first).draw(seed, number)


class ExampleSampler:
    """Draws examples.

    Args:
        studies: with a report; only their ids in `images` are used.
        images: codes of the studies.
        plain: natural-language instructions.
        builder: frames prompts.
        mixing: how often what.
        max_tokens: longer examples are drawn again.
        own: what the base model itself wrote, beside `plain`.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        images: EncodedImages,
        plain: Sequence[PlainInstruction],
        builder: PromptBuilder,
        mixing: Mixing,
        max_tokens: int,
        own: Sequence[PlainInstruction] = (),
    ) -> None:
        self._row = {id_: row for row, id_ in enumerate(images.ids)}
        self.images = images
        usable = [s for s in studies if s.id in self._row and not s.report.is_empty]
        self._normal = [s for s in usable if is_normal(s)]
        self._other = [s for s in usable if not is_normal(s)]
        by_finding = ([s for s in usable if present(s, finding)] for finding in FINDINGS)
        self._by_finding = [studies for studies in by_finding if studies]
        self._plain, self._own = list(plain), list(own)
        self.builder = builder
        self._mixing = mixing
        self._max_tokens = max_tokens
        self._ending_length = len(builder.text_answer(""))
        if not usable or (mixing.instructions > 0 and not self._plain + self._own):
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
        shares = (
            mixing.image_to_text,
            mixing.report_to_image,
            mixing.instructions,
            mixing.statements,
        )
        kind = rng.choices(("text", "image", "plain", "statement"), shares)[0]
        if kind == "plain":
            return self._plain_example(rng)
        study = self._draw_study(rng)
        if kind == "statement":
            return self._statement_example(study, rng)
        codes = self.images.codes[self._row[study.id]]
        version = codes[rng.randrange(len(codes))].tolist()
        if kind == "image":
            return self._image_example(study, version, rng)
        ask = rng.random() < mixing.question_share
        if mixing.share_image and self.builder.template.image_first:
            return self._shared_example(study, version, rng, report=not ask)
        if ask and is_indexed(study):
            return self._question_example(study, version, rng)
        return self._report_example(study, version, rng)

    def _draw_study(self, rng: random.Random) -> Study:
        share = self._mixing.normal_share
        if share is None or not self._normal or not self._other:
            return rng.choice(self._normal + self._other)
        if rng.random() < share:
            return rng.choice(self._normal)
        if self._mixing.finding_share and rng.random() < self._mixing.finding_share:
            return rng.choice(rng.choice(self._by_finding or [self._other]))
        return rng.choice(self._other)

    def _report_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        prompt = self._report_prompt(study, codes, rng)
        answer = self.builder.text_answer(study.report.text)
        return self._example(prompt.task, [(prompt.token_ids, answer)])

    def _report_prompt(self, study: Study, codes: list[int], rng: random.Random) -> Prompt:
        indicated = rng.random() < self._mixing.indication_share
        paraphrase = rng.randrange(len(REPORT_INSTRUCTIONS))
        # Drawn only where it is used: what older runs drew stays the same.
        share = self._mixing.stated_share
        stated = bool(share) and rng.random() < share
        return self.builder.report(
            codes,
            indication=study.indication if indicated else "",
            stated=affirmed(study.report.text) if stated else None,
            paraphrase=paraphrase,
        )

    def _statement_example(self, study: Study, rng: random.Random) -> Example:
        prompt = self.builder.report_of(
            affirmed(study.report.text), paraphrase=rng.randrange(len(REPORT_INSTRUCTIONS))
        )
        answer = self.builder.text_answer(study.report.text)
        return self._example(prompt.task, [(prompt.token_ids, answer)])

    def _shared_example(
        self, study: Study, codes: list[int], rng: random.Random, *, report: bool
    ) -> Example:
        """The image once, and each answer about it as if it stood alone."""
        parts: list[tuple[Sequence[int], list[int], float]] = []
        if report or not is_indexed(study):
            prompt = self._report_prompt(study, codes, rng)
            parts.append((prompt.token_ids, self.builder.text_answer(study.report.text), 1.0))
        if is_indexed(study):
            for question, answer in draw_questions(study, self._mixing.questions_per_image, rng):
                prompt = self.builder.question(codes, question)
                told = self.builder.text_answer(answer)
                parts.append((prompt.token_ids, told, self._mixing.question_weight))
        return self._branched(Task.REPORT if report else Task.QUESTION, parts)

    def _branched(
        self, task: Task, parts: Sequence[tuple[Sequence[int], list[int], float]]
    ) -> Example:
        """What all prompts begin with, then the rest of each with its answer and its weight."""
        common = common_length([prompt for prompt, _, _ in parts])
        trunk = self._example(task, [(parts[0][0][:common], [])])
        branches = [0] * common
        for number, (prompt, answer, weight) in enumerate(parts, start=1):
            branch = self._example(task, [(prompt[common:], answer)])
            trunk.token_ids.extend(branch.token_ids)
            trunk.weights.extend(weight * w for w in branch.weights)
            branches += [number] * len(branch.token_ids)
        return replace(trunk, branches=branches)

    def _question_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        """The image once, then several questions: it is paid for once."""
        questions = draw_questions(study, self._mixing.questions_per_image, rng)
        turns: list[tuple[Sequence[int], list[int]]] = []
        for number, (question, answer) in enumerate(questions):
            prompt = self.builder.question(codes, question)
            frame = prompt.token_ids if number == 0 else self.builder.next_turn(question)
            turns.append((frame, self.builder.text_answer(answer)))
        return self._example(Task.QUESTION, turns)

    def _image_example(self, study: Study, codes: list[int], rng: random.Random) -> Example:
        prompt = self.builder.image(
            study.report.text, paraphrase=rng.randrange(len(IMAGE_INSTRUCTIONS))
        )
        return self._example(prompt.task, [(prompt.token_ids, self.builder.image_answer(codes))])

    def _plain_example(self, rng: random.Random) -> Example:
        chosen = self._draw_plain(rng)
        answer = self.builder.text_answer(chosen.output)
        if chosen.is_cut:
            answer = answer[: -self._ending_length]
        if not chosen.instruction:
            # The first token has nothing before it: it is no target.
            return Example(Task.INSTRUCTION, answer, [0.0] + [1.0] * (len(answer) - 1))
        prompt = self.builder.instruction(chosen.instruction, chosen.input)
        return self._example(prompt.task, [(prompt.token_ids, answer)])

    def _draw_plain(self, rng: random.Random) -> PlainInstruction:
        share = self._mixing.self_share
        if share is None or not self._own or not self._plain:
            return rng.choice(self._plain + self._own)
        return rng.choice(self._own if rng.random() < share else self._plain)

    def _example(self, task: Task, turns: Sequence[tuple[Sequence[int], list[int]]]) -> Example:
        image_ids = self.builder.vocabulary.image_token_ids
        token_ids: list[int] = []
        weights: list[float] = []
        for prompt, answer in turns:
            token_ids += [*prompt, *answer]
            weights += [self._mixing.prompt_image_weight if i in image_ids else 0.0 for i in prompt]
            weights += [1.0] * len(answer)
        return Example(task, token_ids, weights)


def common_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each has one at least that is its own.

    That one is the first of a branch, which is no target.
    """
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in alike), min(map(len, prompts)) - 1)
