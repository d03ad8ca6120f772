"""ImageTokenizer: codes row by row, inputs checked, no training state."""

from __future__ import annotations

import copy

import pytest
import torch

from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.vqgan import VqGan


@pytest.fixture
def tokenizer(vqgan: VqGan) -> ImageTokenizer:
    return ImageTokenizer(vqgan.train())


def test_encode_and_decode(tokenizer: ImageTokenizer) -> None:
    pixels = torch.rand(3, 1, 16, 16) * 2 - 1
    codes = tokenizer.encode(pixels)
    assert codes.shape == (3, tokenizer.image_length) == (3, 16)
    assert codes.dtype == torch.int64
    decoded = tokenizer.decode(codes)
    assert decoded.shape == pixels.shape
    assert decoded.abs().max() <= 1
    assert not decoded.requires_grad


def test_codes_are_in_reading_order(tokenizer: ImageTokenizer, vqgan: VqGan) -> None:
    pixels = torch.rand(1, 1, 16, 16)
    grid = vqgan.encode(pixels).codes[0]
    assert tokenizer.encode(pixels)[0].tolist() == [int(c) for row in grid for c in row]


def test_evaluation_mode(tokenizer: ImageTokenizer, vqgan: VqGan) -> None:
    assert not vqgan.training
    assert not any(parameter.requires_grad for parameter in vqgan.parameters())


@pytest.mark.parametrize(
    "codes",
    [
        torch.zeros(1, 15, dtype=torch.int64),
        torch.zeros(1, 17, dtype=torch.int64),
        torch.zeros(16, dtype=torch.int64),
        torch.zeros(1, 4, 4, dtype=torch.int64),
        torch.full((1, 16), 32),
        torch.full((1, 16), -1),
    ],
)
def test_wrong_codes_are_refused(tokenizer: ImageTokenizer, codes: torch.Tensor) -> None:
    with pytest.raises(InvalidImageTokens):
        tokenizer.decode(codes)


def test_bfloat16_draws_nearly_the_same_and_finds_the_same_codes(vqgan: VqGan) -> None:
    exact = ImageTokenizer(copy.deepcopy(vqgan))
    fast = ImageTokenizer(vqgan, decode_dtype=torch.bfloat16)
    pixels = torch.rand(2, 1, 16, 16) * 2 - 1
    codes = exact.encode(pixels)
    assert torch.equal(fast.encode(pixels), codes)
    drawn = fast.decode(codes)
    assert drawn.dtype == torch.float32
    assert not torch.equal(drawn, exact.decode(codes))
    torch.testing.assert_close(drawn, exact.decode(codes), atol=0.1, rtol=0)
