"""Section `options`: what was turned on for speed, and what could be; before and after.

`waiting`, turned on: on few cores the service lets vLLM's engine do without a worker process and
idle OpenMP threads spin for a moment (`vllm_command.py`, `idle_threads.py`). Beside it a vLLM with
the worker process that it has by default on a CPU and threads that never spin; images, in turn,
with a pause after which the idle one of the two sleeps.

`blocks`, turned on, without a gain that lasted: the key-value cache in blocks of 32 tokens beside
vLLM's 128 for a CPU; images and reports, in turn.

`questions`, turned on: the yes / no questions about a radiograph in one request of several prompts
beside a request each; of radiographs whose report was written just before, as in the gateway.

`ngram`, not turned on: vLLM's speculative decoding with n-grams of the prompt and the answer so
far (Saxena 2023, prompt lookup decoding), for reports: the same report prompts, greedy, to two
vLLMs in turn. vLLM 0.32 refuses a `logit_bias` beside speculation, and that is how a report's
request forbids image tokens; both are asked without it here. To use it, the service would have to
say its constraint in another way. The images are the shipped samples, each moved a little.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from bench_sections.asking import Answer, RawVllm, asking_vllm, closed_loop
from bench_sections.figures import Figures
from bench_sections.radiographs import Radiographs
from bench_sections.ratios import median, paired_ratio, turns
from bench_sections.stage import Server, Stage
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.observations import OBSERVABLE_FINDINGS, observable_findings
from llmcxr_models.prompt import Prompt
from llmcxr_service.generator import Sampling

SECONDS = 600
NGRAM = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}


FORMER_BLOCKS = ["--block-size", "128"]
FORMER = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "GOMP_SPINCOUNT": "0"}
_PAUSE_SECONDS = 2.0
"""vLLM's processes wait for each other in a loop for a second before they sleep."""


def run(stage: Stage) -> Figures:
    """Measure; an option that vLLM does not start with is said to be so."""
    return {
        "waiting": _waiting(stage),
        "blocks": _blocks(stage),
        "questions": asyncio.run(_questions(stage)),
        "ngram": _ngram(stage),
    }


def _waiting(stage: Stage) -> Figures:
    with ExitStack() as stack:
        former = stage.start_vllm(stack, stage.options, environment=FORMER)
        return asyncio.run(_beside(stage, former, _images))


def _blocks(stage: Stage) -> Figures:
    async def both_kinds(stage: Stage, sides: tuple[RawVllm, RawVllm]) -> Figures:
        images, reports = await _images(stage, sides), await _reports(stage, sides)
        return {"images": images, "reports": reports}

    with ExitStack() as stack:
        former = stage.start_vllm(stack, stage.options, FORMER_BLOCKS)
        return asyncio.run(_beside(stage, former, both_kinds))


async def _beside(
    stage: Stage,
    former: Server,
    measure: Callable[[Stage, tuple[RawVllm, RawVllm]], Awaitable[Figures]],
) -> Figures:
    """What `measure` finds of a vLLM as it was, and of the one that all sections share."""
    async with (
        asking_vllm(former, stage.checkpoint) as before,
        asking_vllm(stage.vllm(), stage.checkpoint) as now,
    ):
        return await measure(stage, (before, now))


async def _questions(stage: Stage) -> Figures:
    rounds, levels, count = (2, (1, 4), 4) if stage.quick else (4, (1, 16), 16)
    images = moved_samples(stage, 2 * len(levels) * rounds * count)
    taught = observable_findings(stage.checkpoint.manifest.findings)
    findings = taught or tuple(OBSERVABLE_FINDINGS.values())
    found: Figures = {}
    async with asking_vllm(stage.vllm(), stage.checkpoint) as raw:

        async def read(seed: int) -> Answer:
            return await raw.ask(raw.prompts.report(images[seed]), Sampling(seed, 0.0))

        for place, level in enumerate(levels):
            rates: tuple[list[float], list[float]] = ([], [])
            for number, side in turns(range(rounds)):
                first = ((place * rounds + number) * 2 + side) * count
                seeds = range(first, first + count)
                await closed_loop(read, seeds, level)

                async def look(seed: int, together: bool = side == 1) -> Answer:
                    asked = [raw.prompts.yes_or_no(images[seed], f.question) for f in findings]
                    return await raw.look(asked, together=together)

                batch = await closed_loop(look, seeds, level)
                rates[side].append(batch.tokens_per_second)
            found[str(level)] = _compared(*rates)
    return found


async def _images(stage: Stage, sides: tuple[RawVllm, RawVllm]) -> Figures:
    rounds, levels = (2, (1, 4)) if stage.quick else (4, (1, 16))
    rates: dict[int, tuple[list[float], list[float]]] = {n: ([], []) for n in levels}
    for number, side in turns(range(-1, rounds)):  # the first round only fills caches
        for level in levels:
            await asyncio.sleep(_PAUSE_SECONDS)
            first = 1000 * (2 * number + 2 + side) + 100 * level
            seeds = range(first, first + level)
            batch = await closed_loop(sides[side].image, seeds, level)
            if number >= 0:
                rates[level][side].append(batch.tokens_per_second)
    return {str(level): _compared(*both) for level, both in rates.items()}


def _ngram(stage: Stage) -> Figures:
    with ExitStack() as stack:
        try:
            other = stage.start_vllm(
                stack, stage.options, ["--speculative-config", json.dumps(NGRAM)]
            )
        except RuntimeError as error:
            last = [line for line in str(error).splitlines() if "Error" in line]
            return {"started": False, "why": last[-1:] or ["see the log"]}

        async def measure() -> Figures:
            async with (
                asking_vllm(stage.vllm(), stage.checkpoint) as plain,
                asking_vllm(other, stage.checkpoint) as ngram,
            ):
                return await _reports(stage, (plain, ngram))

        return {"started": True, **NGRAM, **asyncio.run(measure())}


async def _reports(stage: Stage, sides: tuple[RawVllm, RawVllm]) -> Figures:
    rounds, levels, count = (2, (1, 4), 4) if stage.quick else (4, (1, 16), 16)
    # New ones for each level and round, or vLLM would know them.
    images = moved_samples(stage, len(levels) * rounds * count)
    found: Figures = {}
    for place, level in enumerate(levels):
        rates: tuple[list[float], list[float]] = ([], [])
        for number, side in turns(range(rounds)):
            first = (place * rounds + number) * count

            async def ask(seed: int, raw: RawVllm = sides[side]) -> Answer:
                return await raw.ask(_unforbidden(raw, images[seed]), Sampling(seed, 0.0))

            batch = await closed_loop(ask, range(first, first + count), level)
            rates[side].append(batch.tokens_per_second)
        found[str(level)] = _compared(*rates)
    return found


def _compared(before: list[float], after: list[float]) -> Figures:
    return {
        "before_tokens_per_second": median(before),
        "after_tokens_per_second": median(after),
        "ratio": paired_ratio(after, before),
    }


def moved_samples(stage: Stage, count: int) -> list[list[int]]:
    """Codes of the shipped samples, each moved a little."""
    preprocessing = stage.checkpoint.manifest.preprocessing
    side = preprocessing.image_size
    radiographs = Radiographs()
    pixels = []
    for number in range(count):
        small = radiographs.picture(number).resize((side, side), Image.Resampling.LANCZOS)
        grey = np.asarray(small, dtype=np.float32)
        pixels.append(torch.from_numpy(grey / 127.5 - 1.0).repeat(preprocessing.channels, 1, 1))
    codes: list[list[int]] = (
        ImageTokenizer(stage.checkpoint.load_vqgan()).encode(torch.stack(pixels)).tolist()
    )
    return codes


def _unforbidden(raw: RawVllm, codes: list[int]) -> Prompt:
    """A report's prompt with no token forbidden."""
    prompt = raw.prompts.report(codes)
    return replace(prompt, constraint=replace(prompt.constraint, forbidden_token_ids=range(0)))
