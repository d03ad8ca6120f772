"""Section `cost`: what an image costs at each load, and what the number of image tokens does.

`load`: the gateway with 1 to 32 images at once: images a second, time of each, and processor
seconds of gateway and vLLM together for one image.

`writing`: vLLM alone, images of 64, 256 and 1,024 tokens (`min_tokens` = `max_tokens`) for the
same report. `reading`: one token of answer to an image of so many tokens; the image's tokens are
cut, or repeated. What is comparable: the language model's work. What is not: the checkpoint was
taught 256 tokens, so fewer or more are no images, and their VQ-GAN does not exist; nothing here
says what a model that was taught another number would draw.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice

from bench_sections.asking import (
    Answer,
    RawVllm,
    asking_gateway,
    asking_vllm,
    closed_loop,
    with_answer_of,
)
from bench_sections.figures import Figures
from bench_sections.processes import cpu_seconds
from bench_sections.ratios import median, paired_ratio, percentiles
from bench_sections.stage import Stage
from llmcxr_models.prompt import Prompt
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_service.generator import Sampling

SECONDS = 1100
LEVELS = (1, 2, 4, 8, 16, 32)
TOKENS = (64, 256, 1024)
_SHAPES = ("writing", "reading")


def run(stage: Stage) -> Figures:
    """Measure."""
    return {
        "load": asyncio.run(_load(stage, (1, 4) if stage.quick else LEVELS)),
        **asyncio.run(_tokens(stage)),
    }


async def _load(stage: Stage, levels: Sequence[int]) -> Figures:
    gateway = stage.gateway()
    # A vLLM that somebody else runs has its processor time elsewhere: then only ours counts.
    pids = [pid for pid in (stage.vllm().pid, gateway.pid) if pid is not None]
    found: Figures = {}
    async with asking_gateway(gateway) as ours:
        await ours.image(70_000)
        for level in levels:
            before = cpu_seconds(pids)
            count = max(2, level)
            batch = await closed_loop(ours.image, range(1000 * level, 1000 * level + count), level)
            spent = cpu_seconds(pids) - before
            found[str(level)] = {
                "images": count,
                "images_per_second": median([batch.per_second]),
                "seconds": percentiles([answer.seconds for answer in batch.answers]),
                "processor_seconds_per_image": median([spent / count]),
            }
    return found


async def _tokens(stage: Stage) -> Figures:
    lengths = (4, 16, 64) if stage.quick else TOKENS
    rounds = 2 if stage.quick else 3
    levels = (1, 8)
    rates: dict[str, dict[int, dict[int, list[float]]]] = {
        kind: {level: {n: [] for n in lengths} for level in levels} for kind in _SHAPES
    }
    async with asking_vllm(stage.vllm(), stage.checkpoint) as raw:
        await raw.image_of(60_000, lengths[0])
        asks = {
            "writing": {n: partial(raw.image_of, tokens=n) for n in lengths},
            "reading": {n: partial(read_image, raw, stage.checkpoint.manifest.vocabulary, n)
                        for n in lengths},
        }  # fmt: skip
        for number in range(rounds):
            for kind, by_length in asks.items():
                for level in levels:
                    for n, ask in by_length.items():
                        first = 1000 * number + 100 * level
                        batch = await closed_loop(ask, range(first, first + level), level)
                        rates[kind][level][n].append(batch.per_second)
    return {kind: _against_middle(by_level, lengths) for kind, by_level in rates.items()}


def _against_middle(by_level: dict[int, dict[int, list[float]]], lengths: Sequence[int]) -> Figures:
    """Images a second by length, and each length's beside that of the published one."""
    middle = lengths[1]
    return {
        str(level): {
            str(n): {
                "per_second": median(rates[n]),
                "vs_published_length": paired_ratio(rates[n], rates[middle]),
            }
            for n in lengths
        }
        for level, rates in by_level.items()
    }


async def read_image(raw: RawVllm, vocabulary: Vocabulary, tokens: int, seed: int) -> Answer:
    """One token of answer to an image of so many tokens; no seed's image begins as another's."""
    dice = random.Random(f"{seed} {tokens}")
    codes = [dice.randrange(vocabulary.codebook_size) for _ in range(vocabulary.image_length)]
    prompt = with_image_of(raw.prompts.report(codes), vocabulary, tokens)
    return await raw.ask(with_answer_of(prompt, 1), Sampling(seed, 0.0))


def with_image_of(prompt: Prompt, vocabulary: Vocabulary, tokens: int) -> Prompt:
    """The same prompt with an image of so many tokens: cut, or repeated."""
    ids = prompt.token_ids
    places = [i for i, token in enumerate(ids) if token in vocabulary.image_token_ids]
    first, last = places[0], places[-1] + 1
    image = tuple(islice(cycle(ids[first:last]), tokens))
    return replace(prompt, token_ids=(*ids[:first], *image, *ids[last:]))
