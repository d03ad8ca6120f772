"""vLLM's answers of `/v1/completions`, whole or as a stream -> `Completion`. Token ids only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcxr_models.errors import GeneratorMisbehaved
from llmcxr_service.server_sent_events import EventParser

OnTokens = Callable[[tuple[int, ...]], None]
"""Told the next token ids of an answer as soon as they are there; must not block."""

_DONE = "[DONE]"


class Logprobs(BaseModel):
    """Natural logarithms, as vLLM gives them: before temperature, bias and constraint."""

    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []


class Choice(BaseModel):
    """The answer to one prompt; `index` is the prompt's place in the request."""

    model_config = ConfigDict(strict=True)

    index: int = 0
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    logprobs: Logprobs | None = None


class Usage(BaseModel):
    """What was read."""

    model_config = ConfigDict(strict=True)

    prompt_tokens: int = Field(ge=0)


class Completion(BaseModel):
    """A whole answer: a choice for each prompt, in whatever order."""

    model_config = ConfigDict(strict=True)

    model: str
    choices: list[Choice] = Field(min_length=1)
    usage: Usage

    def in_order(self, prompts: int) -> list[Choice]:
        """One choice for each of so many prompts.

        Raises:
            GeneratorMisbehaved: one is missing or too many.
        """
        ordered = sorted(self.choices, key=lambda choice: choice.index)
        if [choice.index for choice in ordered] != list(range(prompts)):
            raise _misbehaved()
        return ordered

    def token_log_probabilities(self) -> tuple[float, ...] | None:
        """Of each token of the first answer; None where the server gives none.

        Raises:
            GeneratorMisbehaved: they are not as many as the tokens.
        """
        choice = self.choices[0]
        given = choice.logprobs.token_logprobs if choice.logprobs else []
        values = tuple(value for value in given if value is not None)
        if not values:
            return None
        if len(values) != len(choice.token_ids):
            raise _misbehaved()
        return values


class _Piece(BaseModel):
    model_config = ConfigDict(strict=True)

    token_ids: list[int]
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: Logprobs | None = None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)

    model: str
    choices: list[_Piece] = Field(max_length=1)
    usage: Usage | None = None


def read_whole(content: bytes) -> Completion:
    """An answer that came in one piece.

    Raises:
        GeneratorMisbehaved: it has another shape.
    """
    try:
        return Completion.model_validate_json(content)
    except ValidationError:
        # Its own text quotes the answer.
        raise _misbehaved() from None


async def read_stream(content: AsyncIterator[bytes], on_tokens: OnTokens) -> Completion:
    """An answer that comes token by token; the same as in one piece, in the end.

    Raises:
        GeneratorMisbehaved: it has another shape, or ends before its end.
    """
    parser, parts = EventParser(), _Parts()
    async for chunk in content:
        try:
            for event in parser.feed(chunk):
                if event.data == _DONE:
                    return parts.completion()
                new = parts.add(_Part.model_validate_json(event.data))
                if new:
                    on_tokens(new)
        except ValueError:  # pydantic's is one; so is an error in the place of a part
            raise _misbehaved() from None
    raise GeneratorMisbehaved("The language model's answer has no end.", reason="shape")


class _Parts:
    """What has come so far."""

    def __init__(self) -> None:
        self._models: set[str] = set()
        self._token_ids: list[int] = []
        self._logprobs: list[float | None] = []
        self._finish_reason: Literal["stop", "length"] | None = None
        self._usage: Usage | None = None

    def add(self, part: _Part) -> tuple[int, ...]:
        """Take one part in; the token ids that are new with it."""
        self._models.add(part.model)
        self._usage = part.usage or self._usage
        for piece in part.choices:
            if self._finish_reason is not None:
                raise ValueError("something follows the end")
            self._token_ids += piece.token_ids
            self._logprobs += piece.logprobs.token_logprobs if piece.logprobs else []
            self._finish_reason = piece.finish_reason
        return tuple(token_id for piece in part.choices for token_id in piece.token_ids)

    def completion(self) -> Completion:
        """All parts as one; a part that is missing is another shape."""
        if self._finish_reason is None or self._usage is None or len(self._models) != 1:
            raise ValueError("a part is missing")
        choice = Choice(
            token_ids=self._token_ids,
            finish_reason=self._finish_reason,
            logprobs=Logprobs(token_logprobs=self._logprobs),
        )
        return Completion(model=self._models.pop(), choices=[choice], usage=self._usage)


def _misbehaved() -> GeneratorMisbehaved:
    return GeneratorMisbehaved("The language model's answer has another shape.", reason="shape")
