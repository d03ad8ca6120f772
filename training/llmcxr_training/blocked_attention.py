"""Causal attention for CPUs that multiply bfloat16: in blocks of queries, by plain products.

PyTorch's own backward pass of attention takes a quarter of a training step on such a processor.
A block of queries looks at no key behind it, so nearly half of the products are never made, and
query heads that share a key head (grouped-query attention) are multiplied with it at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "llmcxr-blocked"

_BLOCK = 128


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its loop depends on the length, and it compiles to nothing better
def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """By the contract of transformers' attention functions; (B, T, heads, D) of (B, heads, T, D).

    Whatever is not a whole bfloat16 sequence on a CPU goes to PyTorch's attention. A mask (B, 1,
    T, T) is added to the scores; it has to hide what is later, too.
    """
    fits = query.device.type == "cpu" and query.dtype == key.dtype == torch.bfloat16
    if dropout or not fits or query.shape[2] != key.shape[2]:
        output, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **kwargs,  # type: ignore[arg-type]
        )
        return output, None
    with torch.autocast("cpu", enabled=False):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        mixed: Tensor = _Blocked.apply(query, key, value, attention_mask, scale)  # type: ignore[no-untyped-call]
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)


class _Blocked(torch.autograd.Function):
    """softmax(scale q k^T + causal mask) v."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        grouped = _grouped(query * scale, key)
        keys, values = key.flatten(0, 1), value.flatten(0, 1)
        length, batch = query.shape[2], query.shape[0]
        output = torch.empty_like(grouped)
        later = torch.full((_BLOCK, _BLOCK), -torch.inf, dtype=query.dtype).triu_(1)
        shares = []
        for start, end in _blocks(length):
            scores = _flat(grouped[:, :, start:end]) @ keys[:, :end].transpose(1, 2)
            scores = scores.view(batch, -1, end - start, end)
            if mask is None:
                scores[..., start:].add_(later[: end - start, : end - start])
            else:
                scores.add_(mask[:, :, start:end, :end])
            share = scores.softmax(-1).view(len(keys), -1, end)
            output[:, :, start:end] = (share @ values[:, :end]).view_as(output[:, :, start:end])
            shares.append(share)
        ctx.save_for_backward(grouped, keys, values, *shares)
        ctx.scale = scale  # type: ignore[attr-defined]
        return output.view_as(query)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grouped, keys, values, *shares = ctx.saved_tensors  # type: ignore[attr-defined]
        scale: float = ctx.scale  # type: ignore[attr-defined]
        gradient = gradients[0].reshape(grouped.shape)
        batch, heads = gradients[0].shape[:2]
        to_query = torch.empty_like(grouped)
        # Sums over blocks, so in float32.
        to_key, to_value = (torch.zeros_like(keys, dtype=torch.float32) for _ in range(2))
        for (start, end), share in zip(_blocks(grouped.shape[2]), shares, strict=True):
            block = _flat(gradient[:, :, start:end])
            to_value[:, :end] += share.transpose(1, 2) @ block
            to_share = block @ values[:, :end].transpose(1, 2)
            to_score = torch._softmax_backward_data(to_share, share, -1, share.dtype)
            rows = to_query[:, :, start:end]
            rows.copy_((to_score @ keys[:, :end]).mul_(scale).view_as(rows))
            to_key[:, :end] += to_score.transpose(1, 2) @ _flat(grouped[:, :, start:end])
        of_key = (batch, -1, *keys.shape[1:])
        return (
            to_query.view(batch, heads, *grouped.shape[2:]),
            to_key.to(keys.dtype).view(of_key),
            to_value.to(keys.dtype).view(of_key),
            None,
            None,
        )


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(length, start + _BLOCK)) for start in range(0, length, _BLOCK)]


def _grouped(query: Tensor, key: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B * key heads, queries of each, T, D)."""
    batch, heads, length, width = query.shape
    return query.reshape(batch * key.shape[1], heads // key.shape[1], length, width)


def _flat(rows: Tensor) -> Tensor:
    """(N, queries, T, D) -> (N, queries * T, D)."""
    return rows.flatten(1, 2)
