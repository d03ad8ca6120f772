"""Answers while they come: token ids checked at once, characters given when they are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmcxr_models.errors import GeneratorMisbehaved, InvalidImageTokens
from llmcxr_models.incremental_text import IncrementalText
from llmcxr_models.prompt import Prompt
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_service.completion import OnTokens

OnText = Callable[[str], None]
"""Told the next characters of an answer; must not block."""

OnImageTokens = Callable[[int, int], None]
"""Told the index of an image and how many more of its tokens are drawn; must not block."""


class TextListener:
    """Takes token ids in, gives characters out.

    Args:
        prompt: whose answer it is.
        vocabulary: the ids that there are.
        tokenizer: reads them.
        on_text: told the characters.
    """

    def __init__(
        self, prompt: Prompt, vocabulary: Vocabulary, tokenizer: TextTokenizer, on_text: OnText
    ) -> None:
        self._prompt = prompt
        self._vocabulary = vocabulary
        self._text = IncrementalText(tokenizer.decode)
        self._on_text = on_text
        self._count = 0

    def take(self, token_ids: Sequence[int]) -> None:
        """The next token ids.

        Raises:
            GeneratorMisbehaved: one of them is no text token, or they are too many.
        """
        self._count += len(token_ids)
        if self._count > self._prompt.constraint.max_tokens:
            raise GeneratorMisbehaved("The text answer has another length.", reason="length")
        check_text_ids(token_ids, self._prompt, self._vocabulary)
        stops = self._vocabulary.stop_token_ids
        self._give(self._text.feed([i for i in token_ids if i not in stops]))

    def finish(self) -> None:
        """No token follows."""
        self._give(self._text.rest())

    def _give(self, text: str) -> None:
        if text:
            self._on_text(text)


def check_text_ids(token_ids: Sequence[int], prompt: Prompt, vocabulary: Vocabulary) -> None:
    """Refuse ids that a text answer to `prompt` cannot have.

    Raises:
        GeneratorMisbehaved: there is one.
    """
    for token_id in token_ids:
        if not 0 <= token_id < vocabulary.size or token_id in prompt.constraint.forbidden_token_ids:
            raise GeneratorMisbehaved("A token id is not a text token.", reason="token-id")


def image_listener(
    image: int, image_length: int, on_tokens: OnImageTokens | None
) -> OnTokens | None:
    """A listener to one image's token ids; what they are is checked when all are there."""
    if on_tokens is None:
        return None
    room = image_length

    def count(token_ids: tuple[int, ...]) -> None:
        nonlocal room
        room -= len(token_ids)
        if room < 0:
            raise InvalidImageTokens("There are more than one image's tokens.")
        on_tokens(image, len(token_ids))

    return count
