"""Text <-> token ids with Hugging Face `tokenizers`; frame and user text are kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from llmcxr_models.errors import InvalidCheckpoint


class TextTokenizer:
    """The checkpoint's tokenizer, in two modes.

    `encode_frame` is for our own instruction frame, where `<|im_end|>` is one token.
    `encode_text` is for everything that a person wrote, where it is only those ten characters.
    """

    def __init__(self, tokenizer_json: Path) -> None:
        try:
            definition = tokenizer_json.read_text(encoding="utf-8")
            # Two objects, not one that is switched: encoding runs in several threads.
            self._frame = Tokenizer.from_str(definition)
            self._text = Tokenizer.from_str(definition)
        except Exception as error:  # tokenizers raises plain Exception
            raise InvalidCheckpoint(f"{tokenizer_json.name} cannot be read.") from error
        self._text.encode_special_tokens = True

    @property
    def size(self) -> int:
        """Number of entries, added tokens included."""
        return self._frame.get_vocab_size(with_added_tokens=True)

    def encode_frame(self, text: str) -> list[int]:
        """Token ids of our own text; special tokens are recognised."""
        return list(self._frame.encode(text, add_special_tokens=False).ids)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a person's text; special tokens' names are split like any text."""
        return list(self._text.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special and image tokens left out."""
        return self._frame.decode(list(token_ids), skip_special_tokens=True)

    def token_id(self, token: str) -> int | None:
        """Id of one entry, or None."""
        return self._frame.token_to_id(token)
