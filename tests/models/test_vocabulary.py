"""Codes and token ids: there and back, and nothing else gets through."""

from __future__ import annotations

from typing import Any

import pytest

from llmcxr_models.errors import InvalidCheckpoint, InvalidImageTokens
from llmcxr_models.vocabulary import Vocabulary, image_token_name

VOCABULARY = Vocabulary(
    size=120, image_offset=100, codebook_size=16, image_length=4, stop_token_ids=(2,)
)


def test_round_trip() -> None:
    for first in range(16):
        codes = [first, 0, 15, (first * 7) % 16]
        token_ids = VOCABULARY.to_token_ids(codes)
        assert all(token_id in VOCABULARY.image_token_ids for token_id in token_ids)
        assert VOCABULARY.to_codes(token_ids) == codes


def test_every_wrong_id_is_refused_at_every_place() -> None:
    good = [100, 105, 110, 115]
    wrong = [*range(-130, 100), *range(116, 300), 10**9]
    for place in range(4):
        for token_id in wrong:
            ids = [*good[:place], token_id, *good[place + 1 :]]
            with pytest.raises(InvalidImageTokens):
                VOCABULARY.to_codes(ids)


@pytest.mark.parametrize("code", [-1, 16, 1024])
def test_wrong_codes_are_refused(code: int) -> None:
    with pytest.raises(InvalidImageTokens):
        VOCABULARY.to_token_ids([0, 0, 0, code])


@pytest.mark.parametrize("length", [0, 3, 5, 256])
def test_wrong_lengths_are_refused(length: int) -> None:
    with pytest.raises(InvalidImageTokens):
        VOCABULARY.to_codes([100] * length)
    with pytest.raises(InvalidImageTokens):
        VOCABULARY.to_token_ids([0] * length)


@pytest.mark.parametrize(
    "change",
    [
        {"image_offset": 105},
        {"image_offset": -1},
        {"codebook_size": 21},
        {"stop_token_ids": (100,)},
        {"stop_token_ids": (120,)},
        {"stop_token_ids": (-1,)},
    ],
)
def test_impossible_vocabularies_are_refused(change: dict[str, Any]) -> None:
    plain = {
        "size": 120, "image_offset": 100, "codebook_size": 16, "image_length": 4,
        "stop_token_ids": (2,),
    }  # fmt: skip
    with pytest.raises(InvalidCheckpoint):
        Vocabulary(**{**plain, **change})


def test_names() -> None:
    assert image_token_name(42) == "<|image_0042|>"
    assert len({image_token_name(code) for code in range(1024)}) == 1024
