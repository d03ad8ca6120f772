"""Section `overhead`: what the gateway costs beside vLLM alone, for the same tokens.

Throughput: texts (`/instruct`) and images at saturation, as many at once as vLLM works on. vLLM
alone gets the very requests that the gateway would send. The rounds alternate. Images carry the
VQ-GAN, which vLLM alone does not: their ratio is what drawing the pixels costs.

Added milliseconds: one request at a time, wall time at the client less what the gateway waited
for vLLM (`timings_ms.generate`). It holds HTTP both ways, parsing, admission, tokenising and JSON;
for a report also decoding the file, the gate on pixels and the VQ-GAN. The same against a vLLM of
the tests that answers after 20 ms without computing, which leaves the processors to the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from scripted_vllm import scripted_vllm

from bench_sections.asking import (
    Ask,
    Gateway,
    RawVllm,
    asking_gateway,
    asking_vllm,
    closed_loop,
    text_of,
)
from bench_sections.figures import Figures
from bench_sections.ratios import median, paired_ratio, percentiles, turns
from bench_sections.stage import Server, Stage

SECONDS = 1200
_TEXT_TOKENS = 64
_SCRIPTED_SECONDS = 0.02


def run(stage: Stage) -> Figures:
    """Measure."""
    return {
        "throughput": asyncio.run(_throughput(stage)),
        "added_ms": asyncio.run(_added(stage.gateway(), 20 if stage.quick else 200)),
        "added_ms_scripted": _scripted(stage),
    }


async def _throughput(stage: Stage) -> Figures:
    at_once = stage.options.max_num_seqs
    rounds = 2 if stage.quick else 6
    tokens = 8 if stage.quick else _TEXT_TOKENS
    count = at_once if stage.quick else 3 * at_once
    backend, gateway = stage.vllm(), stage.gateway()
    async with (
        asking_vllm(backend, stage.checkpoint) as raw,
        asking_gateway(gateway) as ours,
    ):
        sides: tuple[RawVllm | Gateway, ...] = (raw, ours)
        text = await _alternate([text_of(side, tokens) for side in sides], rounds, count, at_once)
        images = await _alternate([side.image for side in sides], rounds // 2, at_once, at_once)
    return {"at_once": at_once, "text": text, "images": images}


async def _alternate(asks: Sequence[Ask], rounds: int, count: int, at_once: int) -> Figures:
    """Rates of vLLM alone and of the gateway, in rounds of changing order."""
    rates: tuple[list[float], list[float]] = ([], [])
    await closed_loop(asks[0], range(90_000, 90_000 + at_once), at_once)
    for number, side in turns(range(rounds)):
        # Seeds that the other side has not asked for, or vLLM would know its prompts.
        first = (2 * number + side) * count
        batch = await closed_loop(asks[side], range(first, first + count), at_once)
        rates[side].append(batch.tokens_per_second)
    return {
        "requests": count,
        "vllm_tokens_per_second": median(rates[0]),
        "gateway_tokens_per_second": median(rates[1]),
        "ratio": paired_ratio(rates[1], rates[0]),
    }


async def _added(gateway: Server, count: int) -> Figures:
    """Milliseconds of each kind that are not vLLM's."""
    async with asking_gateway(gateway) as ours:
        asks: dict[str, Ask] = {"text": text_of(ours, 4), "report": ours.report}
        found: Figures = {}
        for kind in asks:
            number = count if kind == "text" else max(5, count // 4)
            await closed_loop(asks[kind], range(80_000, 80_005), 1)
            ours.radiographs.prepare(range(number))
            batch = await closed_loop(asks[kind], range(number), 1)
            added = [1000.0 * (a.seconds - a.backend_seconds) for a in batch.answers]
            found[kind] = percentiles(added)
    return found


def _scripted(stage: Stage) -> Figures:
    path = Path(stage.checkpoint.path)
    with ExitStack() as stack:
        backend = stack.enter_context(scripted_vllm(path, _SCRIPTED_SECONDS))
        gateway = stage.start_gateway(stack, backend)
        count = 20 if stage.quick else 400
        return asyncio.run(_added(gateway, count))
