"""Task, Prompt and the instruction templates: what the model is asked, as token ids. Pure.

Training and serving build prompts here, so both frame an instruction alike. Instructions are
paraphrased in training (arXiv 2305.11490, section 3.2) and the first of each list is served.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from llmcxr_models.errors import InvalidCheckpoint, InvalidText
from llmcxr_models.observations import NO, YES
from llmcxr_models.vocabulary import Vocabulary


class Task(StrEnum):
    """What a prompt asks for."""

    REPORT = "report"
    IMAGE = "image"
    QUESTION = "question"
    INSTRUCTION = "instruction"


REPORT_INSTRUCTIONS = (
    "Write the radiology report for this chest radiograph.",
    "Describe this chest X-ray in a radiology report.",
    "Read the radiograph above and dictate the report.",
    "What would a radiologist report for this chest radiograph?",
    "Generate findings and impression for the given chest X-ray.",
    "Give a free-text radiology report of this chest image.",
    "Report on this chest radiograph.",
    "Interpret the chest X-ray and write down the report.",
    "Please compose the report that belongs to this radiograph.",
    "Summarise what this chest radiograph shows as a report.",
)

IMAGE_INSTRUCTIONS = (
    "Generate a chest radiograph that matches this report.",
    "Draw the chest X-ray that this report describes.",
    "Create the radiograph to which this report belongs.",
    "Produce a chest X-ray image for the following report.",
    "Show a chest radiograph with these findings.",
    "Synthesise a chest X-ray from this radiology report.",
    "Make a radiograph that fits the report below.",
    "Turn this report into a chest X-ray image.",
    "What would the chest radiograph of this report look like?",
    "Render a chest X-ray consistent with this text.",
)


@dataclass(frozen=True)
class Constraint:
    """Which token ids an answer may have, and how many.

    Attributes:
        allowed_token_ids: if set, nothing else may be generated.
        forbidden_token_ids: may not be generated; empty where `allowed_token_ids` is set.
        min_tokens: no stop before this many.
        max_tokens: a stop after this many.
        stop_token_ids: end the answer.
    """

    allowed_token_ids: range | tuple[int, ...] | None
    forbidden_token_ids: range
    min_tokens: int
    max_tokens: int
    stop_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A framed instruction, and what its answer may be.

    Attributes:
        task: what is asked for.
        token_ids: the whole prompt.
        constraint: on the answer.
    """

    task: Task
    token_ids: tuple[int, ...]
    constraint: Constraint


class Tokenizer(Protocol):
    """What a prompt needs of `TextTokenizer`."""

    def encode_frame(self, text: str) -> list[int]:
        """Our own text: special tokens are tokens."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """A person's text: special tokens' names are only text."""
        ...


@dataclass(frozen=True)
class Template:
    """The frame of one instruction-following model.

    A prompt is `opening`, the request, `closing`; an answer in text ends with `before_ending`,
    `ending`.

    Attributes:
        name: as the manifest names it.
        opening: before the request.
        separator: between instruction and input.
        closing: after the request.
        ending: the token that ends an answer.
        image_first: whether an input image stands before the instruction. Then every question
            about one image shares a prefix, which vLLM computes once.
        image_brackets: text before and after an image's tokens, in prompts and in answers.
        before_ending: text between an answer and its ending.
    """

    name: str
    opening: str
    separator: str
    closing: str
    ending: str
    image_first: bool
    image_brackets: tuple[str, str] = ("", "")
    before_ending: str = ""


TEMPLATES = {
    template.name: template
    for template in (
        Template(
            name="smollm2",
            opening="<|im_start|>user\n",
            separator="\n",
            closing="<|im_end|>\n<|im_start|>assistant\n",
            ending="<|im_end|>",
            image_first=True,
        ),
        # databricks/dolly-v2, as hyn2028/llm-cxr was trained
        Template(
            name="dolly",
            opening=(
                "Below is an instruction that describes a task."
                " Write a response that appropriately completes the request.\n\n"
                "### Instruction:\n"
            ),
            separator="\n\nInput:\n",
            closing="\n\n### Response:\n",
            ending="### End",
            image_first=False,
            image_brackets=("<", ">"),
            before_ending="\n\n",
        ),
    )
}


class PromptBuilder:
    """Builds prompts and training answers for one checkpoint."""

    def __init__(self, template: str, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        if template not in TEMPLATES:
            raise InvalidCheckpoint("the manifest names an unknown prompt template.")
        self.template = TEMPLATES[template]
        self.vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._opening = tokenizer.encode_frame(self.template.opening)
        self._separator = tokenizer.encode_frame(self.template.separator)
        self._closing = tokenizer.encode_frame(self.template.closing)
        self._ending = tokenizer.encode_frame(self.template.before_ending + self.template.ending)
        self._new_line = tokenizer.encode_frame("\n")
        before, after = self.template.image_brackets
        self._before_image = tokenizer.encode_frame(before) if before else []
        self._after_image = tokenizer.encode_frame(after) if after else []

    def report(
        self,
        codes: Sequence[int],
        *,
        indication: str = "",
        stated: Sequence[str] | None = None,
        paraphrase: int = 0,
        max_tokens: int = 256,
    ) -> Prompt:
        """Ask for the report of an image.

        Args:
            codes: `image_length` codes of the radiograph.
            indication: why the study was made; may be empty.
            stated: names of `OBSERVABLE_FINDINGS` that the report is to speak of; none of them
                is a statement, too. None states nothing, for a model that was not taught it.
            paraphrase: which of `REPORT_INSTRUCTIONS`.
            max_tokens: longest answer.

        Raises:
            InvalidImageTokens: `codes` are not one image.
        """
        instruction = REPORT_INSTRUCTIONS[paraphrase]
        if stated is not None:
            instruction += _statement(stated)
        return self._about_image(Task.REPORT, codes, instruction, indication, max_tokens)

    def report_of(
        self, stated: Sequence[str], *, paraphrase: int = 0, max_tokens: int = 256
    ) -> Prompt:
        """Ask for a report of stated findings, without an image."""
        words = REPORT_INSTRUCTIONS[paraphrase] + _statement(stated)
        token_ids = self._request(self._tokenizer.encode_frame(words), [])
        return Prompt(Task.REPORT, tuple(token_ids), self._text_constraint(max_tokens))

    def question(self, codes: Sequence[int], question: str, *, max_tokens: int = 128) -> Prompt:
        """Ask a free question about an image."""
        return self._about_image(Task.QUESTION, codes, "", question, max_tokens)

    def yes_or_no(self, codes: Sequence[int], question: str) -> Prompt:
        """Ask a question about an image whose answer is one token: yes or no, in this order.

        The tokens with which the two trained answers begin.

        Raises:
            InvalidCheckpoint: both begin with the same token.
        """
        yes, no = (self._tokenizer.encode_text(answer)[0] for answer in (YES, NO))
        if yes == no:
            raise InvalidCheckpoint("the tokenizer cannot tell yes from no by one token.")
        prompt = self.question(codes, question)
        return replace(prompt, constraint=Constraint((yes, no), range(0), 1, 1, ()))

    def image(self, report: str, *, paraphrase: int = 0) -> Prompt:
        """Ask for an image of a report: exactly `image_length` image tokens, nothing else."""
        token_ids = self._request(
            self._tokenizer.encode_frame(IMAGE_INSTRUCTIONS[paraphrase]),
            self._tokenizer.encode_text(report),
        )
        length = self.vocabulary.image_length
        constraint = Constraint(self.vocabulary.image_token_ids, range(0), length, length, ())
        return Prompt(Task.IMAGE, (*token_ids, *self._before_image), constraint)

    def instruction(self, instruction: str, text: str = "", *, max_tokens: int = 256) -> Prompt:
        """A plain instruction in natural language, with optional input text."""
        token_ids = self._request(
            self._tokenizer.encode_text(instruction), self._tokenizer.encode_text(text)
        )
        return Prompt(Task.INSTRUCTION, tuple(token_ids), self._text_constraint(max_tokens))

    def next_turn(self, question: str) -> list[int]:
        """Frame of a further question after an answer; its image is the one before it."""
        return self._new_line + self._request([], self._tokenizer.encode_text(question))

    def text_answer(self, text: str) -> list[int]:
        """What training teaches as a text answer, ending included."""
        return self._tokenizer.encode_text(text) + self._ending

    def image_answer(self, codes: Sequence[int]) -> list[int]:
        """What training teaches as an image answer; its length ends it."""
        return self.vocabulary.to_token_ids(codes)

    def _about_image(
        self, task: Task, codes: Sequence[int], instruction: str, text: str, max_tokens: int
    ) -> Prompt:
        codes_as_ids = self.vocabulary.to_token_ids(codes)
        image = [*self._before_image, *codes_as_ids, *self._after_image]
        # Our instruction is ours; a question or an indication is a person's.
        ours = self._tokenizer.encode_frame(instruction) if instruction else []
        theirs = self._tokenizer.encode_text(self._indicated(task, text)) if text else []
        # Not the separator: a frame has one input, and that is the image.
        words = ours + (self._new_line if ours and theirs else []) + theirs
        if self.template.image_first:
            request = [*image, *self._separator, *words]
        else:
            request = [*words, *self._separator, *image]
        token_ids = (*self._opening, *request, *self._closing)
        return Prompt(task, token_ids, self._text_constraint(max_tokens))

    @staticmethod
    def _indicated(task: Task, text: str) -> str:
        return f"Indication: {text}" if task is Task.REPORT else text

    def _request(self, instruction: list[int], text: list[int]) -> list[int]:
        separator = self._separator if instruction and text else []
        return [*self._opening, *instruction, *separator, *text, *self._closing]

    def _text_constraint(self, max_tokens: int) -> Constraint:
        vocabulary = self.vocabulary
        return Constraint(
            None, vocabulary.image_token_ids, 1, max_tokens, vocabulary.stop_token_ids
        )


def _statement(stated: Sequence[str]) -> str:
    return f"\nFindings to report: {', '.join(stated) or 'none'}."


def clean_text(text: str, *, what: str, max_characters: int, required: bool = True) -> str:
    """Normalise a person's text (NFC, line ends) and refuse what cannot be meant.

    Args:
        text: as received.
        what: its name in messages, for example `report`.
        max_characters: longest accepted.
        required: whether it may be empty.

    Raises:
        InvalidText: empty, too long, or with control characters.
    """
    if len(text) > max_characters:
        raise InvalidText(
            f"The {what} is longer than {max_characters} characters.", reason="too-long"
        )
    normal = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if any(_is_control(character) for character in normal):
        raise InvalidText(f"The {what} has control characters in it.", reason="control-characters")
    if required and not normal:
        raise InvalidText(f"The {what} is empty.", reason="empty")
    return normal


def _is_control(character: str) -> bool:
    # Cc: controls; Cs: lone surrogates, which no encoder accepts. Tabs and line ends are text.
    return unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t"
