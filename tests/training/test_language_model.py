"""The model in training against the stock model and a plain reference of its loss."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from llmcxr_models.vocabulary import Vocabulary
from llmcxr_training.data import DataError
from llmcxr_training.language_model import ImageTextModel, Lora, Losses

TEXTS, CODES = 200, 16
VOCABULARY = Vocabulary(TEXTS + CODES, TEXTS, CODES, 4, (2,))
KINDS = [("llama", True), ("llama", False), ("neox", True), ("neox", False)]
ADAPTERS = Lora(rank=4, alpha=8)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids (3, 12) of both kinds and loss weights, the last row padded by a third."""
    generator = torch.Generator().manual_seed(seed)
    token_ids = torch.randint(TEXTS + CODES, (3, 12), generator=generator)
    token_ids[:, 3:7] = TEXTS + token_ids[:, 3:7] % CODES
    weights = torch.randint(3, (3, 12), generator=generator).float() / 2
    token_ids[2, 8:], weights[2, 8:] = 0, 0.0
    return token_ids, weights


def randomise_adapters(model: ImageTextModel, seed: int = 1) -> None:
    """Move every trained weight off its start: B of an adapter starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def reference(model: ImageTextModel, token_ids: Tensor, weights: Tensor) -> list[float]:
    """The four sums, one target at a time."""
    hidden = model.hidden_states(token_ids)
    text_head = model.text_rows if model.text_head is None else model.text_head
    sums = [0.0, 0.0, 0.0, 0.0]
    for row in range(token_ids.shape[0]):
        for position in range(1, token_ids.shape[1]):
            target, weight = int(token_ids[row, position]), float(weights[row, position])
            is_image = target >= TEXTS
            rows = model.image_head if is_image else text_head
            logits = rows @ hidden[row, position - 1]
            loss = -F.log_softmax(logits, -1)[target - TEXTS * is_image]
            sums[0 if is_image else 2] += weight * float(loss)
            sums[1 if is_image else 3] += weight
    return sums


@pytest.mark.parametrize(("family", "tied"), KINDS)
@pytest.mark.parametrize("lora", [None, ADAPTERS])
def test_hidden_states_are_the_stock_model_s(make_model, family, tied, lora) -> None:
    stock = make_model(family, VOCABULARY.size, tied=tied)
    model = ImageTextModel(copy.deepcopy(stock), VOCABULARY, lora)
    token_ids, _ = batch()
    with torch.no_grad():
        expected = stock.base_model(input_ids=token_ids).last_hidden_state
        torch.testing.assert_close(model.hidden_states(token_ids), expected)
        torch.testing.assert_close(
            model.embed(token_ids), stock.get_input_embeddings()(token_ids), rtol=0, atol=0
        )
        torch.testing.assert_close(
            model.text_logits(expected), stock(input_ids=token_ids).logits[..., :TEXTS]
        )


@pytest.mark.parametrize(("family", "tied"), KINDS)
@pytest.mark.parametrize("lora", [None, ADAPTERS])
def test_losses_are_the_reference_s(make_model, family, tied, lora) -> None:
    model = ImageTextModel(make_model(family, VOCABULARY.size, tied=tied), VOCABULARY, lora)
    randomise_adapters(model)
    token_ids, weights = batch()
    with torch.no_grad():
        losses = model(token_ids, weights)
        assert [float(x) for x in losses] == pytest.approx(
            [*reference(model, token_ids, weights), 0.0], rel=1e-5
        )


def test_padding_changes_nothing(make_model) -> None:
    model = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, ADAPTERS)
    randomise_adapters(model)
    token_ids, weights = batch()
    with torch.no_grad():
        short = model(token_ids[2:, :8], weights[2:, :8])
        long = model(token_ids[2:], weights[2:])
    torch.testing.assert_close(torch.stack(long), torch.stack(short))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_batch_of_one_kind_has_no_loss_of_the_other(make_model, kind) -> None:
    model = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, ADAPTERS)
    token_ids = torch.arange(8).unsqueeze(0) + (TEXTS if kind == "image" else 0)
    losses: Losses = model(token_ids, torch.ones(1, 8))
    (losses.image_sum + losses.text_sum).backward()
    absent = losses.text_weight if kind == "image" else losses.image_weight
    assert float(absent) == 0.0
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_at_first_every_code_is_as_likely_as_any_other(make_model) -> None:
    model = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, ADAPTERS)
    losses = model(*batch())
    per_token = (losses.image_sum / losses.image_weight).item()
    assert per_token == pytest.approx(torch.log(torch.tensor(float(CODES))).item(), rel=1e-5)


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_with_adapters_only_they_and_the_image_rows_learn(make_model, family, tied) -> None:
    model = ImageTextModel(make_model(family, VOCABULARY.size, tied=tied), VOCABULARY, ADAPTERS)
    randomise_adapters(model)
    losses = model(*batch())
    (losses.image_sum + losses.text_sum).backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"image_rows", "image_head"} < trained
    assert all("lora_" in name for name in trained - {"image_rows", "image_head"})
    assert trained == set(model.trained_state())
    linear = 7 if family == "llama" else 4
    assert len(model.adapters()) == 2 * linear
    assert len(trained) == 2 + 2 * 2 * linear


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_without_adapters_everything_learns(make_model, family, tied) -> None:
    model = ImageTextModel(make_model(family, VOCABULARY.size, tied=tied), VOCABULARY, None)
    # The image head starts at zero, and nothing flows back through it in the very first step.
    randomise_adapters(model)
    losses = model(*batch())
    (losses.image_sum + losses.text_sum).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # The backbone keeps an embedding of one row, which is never looked up.
    assert without == {f"backbone.embed_{'tokens' if family == 'llama' else 'in'}.weight"}
    assert not without & set(model.trained_state())
    assert (model.text_head is None) == tied


def test_trained_state_comes_back(make_model) -> None:
    one, other = (
        ImageTextModel(make_model("llama", VOCABULARY.size, seed=3), VOCABULARY, ADAPTERS)
        for _ in range(2)
    )
    randomise_adapters(one)
    other.load_trained_state({n: t.clone() for n, t in one.trained_state().items()})
    with torch.no_grad():
        assert torch.equal(torch.stack(one(*batch())), torch.stack(other(*batch())))
    full = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, None)
    with pytest.raises(DataError):
        other.load_trained_state(full.trained_state())
    rank_one = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, Lora(rank=1))
    with pytest.raises(DataError):
        other.load_trained_state(rank_one.trained_state())


def test_frozen_weights_may_be_bfloat16(make_model) -> None:
    model = ImageTextModel(
        make_model("llama", VOCABULARY.size), VOCABULARY, ADAPTERS, torch.bfloat16
    )
    randomise_adapters(model)
    exact = ImageTextModel(make_model("llama", VOCABULARY.size), VOCABULARY, ADAPTERS)
    exact.load_trained_state(model.trained_state())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch())
    (losses.image_sum + losses.text_sum).backward()
    torch.testing.assert_close(
        torch.stack(losses), torch.stack(exact(*batch())), rtol=0.02, atol=0.02
    )
