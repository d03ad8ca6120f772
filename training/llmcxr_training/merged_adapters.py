"""Adapted linear layers for CPUs: weight and adapter are added first, then multiplied once.

Out of the box (peft) an adapter is three products and two passes over an output that is wider
than the adapter by far; on a processor those passes cost more than the products. Here the small
product is added to the weight before, in the weight's own precision: the sum that is trained with
is the sum that is served. The gradients are those of the two small matrices alone.
"""

from __future__ import annotations

from typing import cast

import torch
from peft.tuners.lora import Linear as StockLinear
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

ADAPTER = "default"


class MergedLinear(StockLinear):
    """A linear layer with one adapter; elsewhere than on a CPU it is the stock one."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """(..., in) -> (..., out)."""
        base = cast(nn.Linear, self.get_base_layer())
        # ZeRO-3 gathers a weight when its own module is called, so it has to be.
        is_gathered = hasattr(base.weight, "ds_id")
        if x.device.type != "cpu" or is_gathered or self.disable_adapters:
            return super().forward(x, *args, **kwargs)
        a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
        dtype = x.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        small = (t.to(dtype) for t in (x, base.weight, a, b))
        y: Tensor = _Adapted.apply(*small, self.scaling[ADAPTER])  # type: ignore[no-untyped-call]
        return y if base.bias is None else y + base.bias.to(dtype)


class _Adapted(torch.autograd.Function):
    """x (W + s B A)^T; no gradient for W."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scaling)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scaling = scaling  # type: ignore[attr-defined]
        return F.linear(x, merged)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, a, b = ctx.saved_tensors  # type: ignore[attr-defined]
        scaling: float = ctx.scaling  # type: ignore[attr-defined]
        gradient = gradients[0].reshape(-1, merged.shape[0])
        flat = x.reshape(-1, merged.shape[1])
        inner = (gradient @ b).mul_(scaling)
        down = (flat @ a.t()).mul_(scaling)
        return (gradient @ merged).view_as(x), None, inner.t() @ flat, gradient.t() @ down, None
