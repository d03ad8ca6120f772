"""What is written for CPUs against what it replaces: adapters, attention, branches."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from tests.training.test_language_model import (
    ADAPTERS,
    KINDS,
    TEXTS,
    VOCABULARY,
    batch,
    randomise_adapters,
)
from torch import Tensor, nn
from torch.nn import functional as F

from llmcxr_training.blocked_attention import attention
from llmcxr_training.language_model import ImageTextModel, branch_mask, branch_positions
from llmcxr_training.merged_adapters import MergedLinear


def adapted(custom: bool, bias: bool) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 8, bias=bias))
    settings = LoraConfig(r=2, lora_alpha=6, target_modules=["0"])
    if custom:
        settings._register_custom_module({nn.Linear: MergedLinear})
    inject_adapter_in_model(settings, network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("low", [True, False])
def test_merged_adapters_are_peft_s(bias: bool, low: bool) -> None:
    stock, merged = adapted(False, bias), adapted(True, bias)
    assert isinstance(merged[0], MergedLinear)  # type: ignore[index]
    x = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(2))
    results = []
    for network in (stock, merged):
        source = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = network(source)
        (y.float() ** 2).sum().backward()
        gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        results.append({"y": y.detach().float(), "x": source.grad, **gradients})
    assert results[0].keys() == results[1].keys()
    assert len(results[0]) == 4
    for name, tensor in results[0].items():
        scale = 0.05 if low else 1e-5
        error = (results[1][name] - tensor).norm() / tensor.norm()
        assert float(error) < scale, name


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("length", [1, 128, 300])
@pytest.mark.parametrize("masked", [True, False])
def test_blocked_attention_is_attention(heads: int, length: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, found = [], []
    shapes = [(2, h, length, 16) for h in (heads, 2, 2)]
    sources = [torch.randn(s, generator=generator).bfloat16() for s in shapes]
    mask = torch.full((2, 1, length, length), -torch.inf).triu(1)
    if masked:
        mask[:, :, 2 * length // 3 :, length // 3 : length // 2] = -torch.inf
    for results, dtype in ((wanted, torch.float32), (found, torch.bfloat16)):
        q, k, v = (s.clone().to(dtype).requires_grad_() for s in sources)
        if dtype == torch.float32:
            k2, v2 = (t.repeat_interleave(heads // 2, 1) for t in (k, v))
            y = F.scaled_dot_product_attention(q, k2, v2, mask).transpose(1, 2)
        else:
            given = mask.to(dtype) if masked else None
            y, _ = attention(nn.Module(), q, k, v, given, scaling=16**-0.5)
        (y.float() ** 2).sum().backward()
        results += [y.detach(), q.grad, k.grad, v.grad]
    for one, other in zip(wanted, found, strict=True):
        assert one.shape == other.shape
        error = (other.float() - one).norm()
        assert float(error) < 0.02 * float(one.norm()) + 1e-3


def test_a_branch_goes_on_from_the_trunk() -> None:
    branches = torch.tensor([[0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0, 0]])
    positions = branch_positions(branches)
    assert positions.tolist() == [[0, 1, 2, 3, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]]
    seen = branch_mask(branches, torch.float32)[:, 0] == 0
    assert seen[1].equal(torch.ones(7, 7).tril().bool())
    assert seen[0, 5].tolist() == [True, True, False, False, True, True, False]


@pytest.mark.parametrize(("family", "tied"), KINDS)
def test_answers_in_branches_are_learnt_as_if_alone(make_model, family, tied) -> None:
    model = ImageTextModel(make_model(family, VOCABULARY.size, tied=tied), VOCABULARY, ADAPTERS)
    randomise_adapters(model)
    token_ids, weights = batch()
    weights[:, 0] = weights[:, 4] = weights[:, 8] = 0.0
    row, weight = token_ids[0], weights[0]
    assert set((row >= TEXTS).tolist()) == {True, False}
    parts = [torch.arange(12)[s] for s in (slice(0, 8), [0, 1, 2, 3, 8, 9, 10, 11])]
    alone = sum(_losses(model, row[p], weight[p]) for p in parts)
    trunk = _losses(model, row[:4], weight[:4])
    branches = torch.tensor([[0] * 4 + [1] * 4 + [2] * 4])
    with torch.no_grad():
        together = torch.stack(model(row[None], weight[None], branches))
    torch.testing.assert_close(together, alone - trunk)


@torch.no_grad()
def _losses(model: ImageTextModel, row: Tensor, weight: Tensor) -> Tensor:
    return torch.stack(model(row[None], weight[None]))
