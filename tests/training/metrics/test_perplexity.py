"""Language models whose perplexity is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeModel
from torch.nn import functional as F

from llmcxr_training.data import DataError
from llmcxr_training.metrics.perplexity import TextLoss, text_loss, text_loss_of_model

TOKENS = torch.randint(50, (100,), generator=torch.Generator().manual_seed(0))


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary(
    make_model: MakeModel,
) -> None:
    model = make_model("llama", 50)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    found = text_loss(model, TOKENS, window=16, stride=8).perplexity()
    assert found.value == pytest.approx(50.0, rel=1e-5)
    assert found.n == 99


@pytest.mark.parametrize("stride", [1, 7, 15])
def test_every_token_is_scored_once_with_its_window(make_model: MakeModel, stride: int) -> None:
    model = make_model("llama", 50)
    found = text_loss(model, TOKENS, window=16, stride=stride)
    assert found.nll.shape == (99,)
    done = 1
    while done < 100:
        end = min(100, done + stride) if done > 1 else 16
        ids = TOKENS[max(0, end - 16) : end]
        with torch.no_grad():
            every = F.log_softmax(model(ids[None]).logits[0], dim=-1)
        for token in range(done, end):
            place = len(ids) - (end - token)
            expected = -every[place - 1, ids[place]].item()
            assert found.nll[token - 1] == pytest.approx(expected, abs=1e-5)
        done = end


def test_a_short_text_fits_one_window(make_model: MakeModel) -> None:
    model = make_model("llama", 50)
    with torch.no_grad():
        expected = model(TOKENS[None], labels=TOKENS[None]).loss.item()
    found = text_loss(model, TOKENS, window=512, stride=256)
    assert math.log(found.perplexity().value) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="stride"):
        text_loss(model, TOKENS, window=16, stride=16)
    with pytest.raises(ValueError, match="tokens"):
        text_loss(model, TOKENS[:1], window=16, stride=8)


def test_a_ratio_is_of_pairs_and_narrower_than_its_parts() -> None:
    before = np.random.default_rng(0).gamma(2.0, 1.5, 4000)
    first = TextLoss(before, 1024, 512)
    second = TextLoss(before + 0.05, 1024, 512)
    ratio = second.ratio_to(first)
    assert ratio.value == pytest.approx(math.exp(0.05))
    assert ratio.high - ratio.low < 1e-9
    alone = first.perplexity()
    assert alone.low < alone.value < alone.high
    with pytest.raises(ValueError, match="same tokens"):
        second.ratio_to(TextLoss(before, 1024, 256))


def test_a_model_and_a_text_on_disk(base_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The heart is enlarged. " * 20)
    found = text_loss_of_model(base_folder, text, window=32, stride=16, device="cpu")
    assert found.nll.min() > 0
    short = text_loss_of_model(base_folder, text, window=32, stride=16, max_tokens=11, device="cpu")
    assert short.nll == pytest.approx(found.nll[:10], abs=1e-5)
    with pytest.raises(DataError):
        text_loss_of_model(base_folder, tmp_path / "none.txt", device="cpu")
    with pytest.raises(DataError):
        text_loss_of_model(tmp_path, text, device="cpu")


def test_among_text_tokens_the_others_have_no_share(make_model: MakeModel) -> None:
    model = make_model("llama", 50)
    ids = TOKENS % 40
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    found = text_loss(model, ids, window=16, stride=8, text_tokens=40).perplexity()
    assert found.value == pytest.approx(40.0, rel=1e-5)
