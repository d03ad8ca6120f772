"""Codes <-> token ids. Pure; the only place that knows where image tokens sit in a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmcxr_models.errors import InvalidCheckpoint, InvalidImageTokens


@dataclass(frozen=True)
class Vocabulary:
    """A language model's vocabulary, grown by one token for each code of the image tokenizer.

    Attributes:
        size: rows of the model's embedding.
        image_offset: token id of code 0; the image tokens are consecutive.
        codebook_size: how many image tokens there are.
        image_length: how many codes make one image.
        stop_token_ids: ids that end a text answer.
    """

    size: int
    image_offset: int
    codebook_size: int
    image_length: int
    stop_token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.image_offset <= self.size - self.codebook_size:
            raise InvalidCheckpoint("the image tokens do not fit into the vocabulary.")
        if any(not 0 <= i < self.size or i in self.image_token_ids for i in self.stop_token_ids):
            raise InvalidCheckpoint("a stop token is outside the text part of the vocabulary.")

    @property
    def image_token_ids(self) -> range:
        """All token ids that stand for a code."""
        return range(self.image_offset, self.image_offset + self.codebook_size)

    def to_token_ids(self, codes: Iterable[int]) -> list[int]:
        """Token ids of one image.

        Raises:
            InvalidImageTokens: not exactly `image_length` codes, or one outside the codebook.
        """
        values = list(codes)
        self._check_length(values)
        if any(not 0 <= code < self.codebook_size for code in values):
            raise InvalidImageTokens("A code is outside the codebook.")
        return [self.image_offset + code for code in values]

    def to_codes(self, token_ids: Sequence[int]) -> list[int]:
        """Codes of one image; nothing is clipped, padded or dropped.

        Raises:
            InvalidImageTokens: not exactly `image_length` ids, or one that is no image token.
        """
        self._check_length(token_ids)
        if any(token_id not in self.image_token_ids for token_id in token_ids):
            raise InvalidImageTokens("A token id is not an image token.")
        return [token_id - self.image_offset for token_id in token_ids]

    def _check_length(self, values: Sequence[int]) -> None:
        if len(values) != self.image_length:
            raise InvalidImageTokens(f"An image is {self.image_length} tokens, not {len(values)}.")


def image_token_name(code: int) -> str:
    """The tokenizer entry of a code, for example `<|image_0042|>`."""
    return f"<|image_{code:04d}|>"
