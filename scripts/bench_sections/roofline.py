"""Section `roofline`: the machine's bound for this model, and vLLM's share of it.

The roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009): work takes at least the
longer of bytes / bandwidth and operations / rate.

Decoding. One step gives each of B sequences a token. It reads every weight once, and the keys and
values of every token so far of every sequence:

    bytes = weights + B * context * 2 * layers * kv_heads * head_dim * bytes_each
    operations = 2 * B * parameters + 4 * B * context * layers * heads * head_dim

(one product and one sum for each weight and token; for attention the same for q k and for p v;
Kaplan et al. 2020, arXiv 2001.08361, section 2.1). The input embedding only looks up a row for
each sequence, and counts in neither. The bound is B / max(bytes / bandwidth, operations / rate)
tokens a second.

Reading a prompt of P tokens takes at least 2 * P * parameters / rate; its weights are read once.

Bandwidth is the highest that `copy`, `triad` or `read` reached with arrays of about the weights'
size or more, the rate the highest of any matrix product in the weights' type: both measured in
the same run, before and after vLLM, by another program than vLLM's. A share above 1 would say
that the bound was measured too low.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from bench_sections.asking import REPORT, RawVllm, asking_vllm, closed_loop
from bench_sections.cost import read_image
from bench_sections.figures import Figures
from bench_sections.machine_rates import bandwidth, products
from bench_sections.ratios import median
from bench_sections.stage import Stage

SECONDS = 500
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_LEVELS = (1, 4, 16, 32)


@dataclass(frozen=True)
class Shape:
    """A Llama's size.

    Attributes:
        parameters: of transformer and output layer, which every token is multiplied with.
        layers: transformer blocks.
        heads: of queries.
        kv_heads: of keys and values.
        head_dim: width of a head.
        bytes_each: of a weight, a key or a value.
    """

    parameters: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    bytes_each: int

    @classmethod
    def of(cls, config: dict[str, Any], dtype: str) -> Shape:
        """From a `config.json`: attention, the three matrices of the gated MLP, norms, output."""
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head_dim = int(config.get("head_dim") or width // heads)
        layers = int(config["num_hidden_layers"])
        attention = 2 * width * heads * head_dim + 2 * width * kv_heads * head_dim
        block = attention + 3 * width * int(config["intermediate_size"]) + 2 * width
        parameters = layers * block + width + int(config["vocab_size"]) * width
        return cls(parameters, layers, heads, kv_heads, head_dim, _BYTES[dtype])

    def step_bytes(self, sequences: int, context: float) -> float:
        """Bytes that one decoding step reads."""
        keys_and_values = 2 * self.layers * self.kv_heads * self.head_dim
        return self.bytes_each * (self.parameters + sequences * context * keys_and_values)

    def step_operations(self, sequences: int, context: float) -> float:
        """Products and sums of one decoding step."""
        attention = 4 * context * self.layers * self.heads * self.head_dim
        return sequences * (2.0 * self.parameters + attention)

    def bound(self, sequences: int, context: float, bandwidth: float, rate: float) -> float:
        """Most tokens a second; bandwidth in bytes, rate in operations a second."""
        return sequences / max(
            self.step_bytes(sequences, context) / bandwidth,
            self.step_operations(sequences, context) / rate,
        )

    def prompt_bound(self, tokens: int, rate: float) -> float:
        """Most tokens of prompts read a second; attention grows with half the length."""
        attention = 2 * tokens * self.layers * self.heads * self.head_dim
        return rate / (2.0 * self.parameters + attention)


def run(stage: Stage) -> Figures:
    """Measure."""
    config = json.loads((stage.checkpoint.llm_path / "config.json").read_text())
    shape = Shape.of(config, stage.dtype)
    backend = stage.vllm()
    before = _rates(stage, shape)
    prompt, written, read = asyncio.run(_vllm(stage))
    after = _rates(stage, shape)
    fastest = max(before["bytes_per_second"], after["bytes_per_second"])
    rate = max(before["operations_per_second"], after["operations_per_second"])
    context = prompt + stage.checkpoint.manifest.vocabulary.image_length / 2
    bounds = {n: shape.bound(n, context, fastest, rate) for n in written}
    share = {str(n): median([tokens / bounds[n]]) for n, tokens in written.items()}
    image = stage.checkpoint.manifest.vocabulary.image_length
    return {
        "dtype": stage.dtype,
        "threads": torch.get_num_threads(),
        "vllm_start_seconds": backend.seconds,
        "parameters_read_each_step": shape.parameters,
        "weights_mib": round(shape.step_bytes(0, 0) / 2**20, 1),
        "kv_bytes_per_token": round(shape.step_bytes(1, 1) - shape.step_bytes(0, 0)),
        "mean_context_tokens": context,
        "bandwidth_gb_per_second": round(fastest / 1e9, 2),
        "gflop_per_second": round(rate / 1e9, 1),
        "before": before,
        "after": after,
        "bound_tokens_per_second": {str(n): median([b]) for n, b in bounds.items()},
        "vllm_tokens_per_second": {str(n): median([t]) for n, t in written.items()},
        "share": {**share, "saturated": share[str(max(written))]},
        "prompts": {
            "tokens_per_second": median([read]),
            "bound_tokens_per_second": median([shape.prompt_bound(image, rate)]),
            "share": median([read / shape.prompt_bound(image, rate)]),
        },
    }


def _rates(stage: Stage, shape: Shape) -> Figures:
    """The machine now; the bound's bandwidth is that of arrays of about the weights' size."""
    quick = stage.quick
    weights = max(1, round(shape.step_bytes(0, 0) / 2**20))
    sizes = sorted({1, weights}) if quick else sorted({4, 32, weights, 1024})
    streams = bandwidth(sizes, 3 if quick else 7)
    rows = (1, 32) if quick else (1, 4, 16, 32, 256, 2048)
    gemm = products(256 if quick else 2048, rows, 3 if quick else 7)
    of_size = [rates for size, rates in streams.items() if int(size) >= weights]
    return {
        "bandwidth_gb_per_second_by_mib": streams,
        "gflop_per_second_by_rows": gemm,
        "bytes_per_second": 1e9 * max(max(rates.values()) for rates in of_size),
        "operations_per_second": 1e9 * max(gemm[stage.dtype].values()),
    }


async def _vllm(stage: Stage) -> tuple[int, dict[int, float], float]:
    """Length of a prompt; tokens written a second by sequences at once; tokens read a second."""
    levels = (1, 4) if stage.quick else _LEVELS
    vocabulary = stage.checkpoint.manifest.vocabulary
    async with asking_vllm(stage.vllm(), stage.checkpoint) as raw:
        await raw.image(50_000)
        written = {n: await _best_of_two(raw, n) for n in levels}
        ask = partial(read_image, raw, vocabulary, vocabulary.image_length)
        count = 4 if stage.quick else 32
        batch = await closed_loop(ask, range(50_000, 50_000 + count), 8)
        length = len(raw.prompts.image(REPORT).token_ids)
        return length, written, batch.per_second * vocabulary.image_length


async def _best_of_two(raw: RawVllm, at_once: int) -> float:
    batches = [
        await closed_loop(raw.image, range(first, first + at_once), at_once)
        for first in (10_000 + 100 * at_once, 30_000 + 100 * at_once)
    ]
    return max(batch.tokens_per_second for batch in batches)
