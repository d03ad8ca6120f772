"""Section `vqgan`: pixels to codes and back by the service's micro-batches and by bare torch.

Three ways for the same images in every round, in changing order: the service's `Vision` with all
images submitted at once, the same with one after the other, and the bare VQ-GAN in batches of
each size. The best batch is the one that is fastest over all rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench_sections.figures import Figures
from bench_sections.ratios import median, paired_ratio
from bench_sections.stage import Stage
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_service.settings import Settings
from llmcxr_service.vision import Vision, load_image_tokenizer, micro_batch_sizes

BATCHES = (1, 2, 4, 8, 16, 32)
SECONDS = 400
_Way = Callable[[], Coroutine[Any, Any, None]]


def run(stage: Stage) -> Figures:
    """Measure."""
    images, rounds = (8, 2) if stage.quick else (32, 5)
    stage.close()  # nothing else shall compute
    return asyncio.run(_measure(stage, images, rounds))


async def _measure(stage: Stage, images: int, rounds: int) -> Figures:
    defaults = Settings.model_construct()
    tokenizer = load_image_tokenizer(stage.checkpoint, defaults)
    max_encode, max_decode = micro_batch_sizes(tokenizer, defaults)
    sizes: list[int] = []
    vision = Vision(
        tokenizer,
        stage.checkpoint.manifest.preprocessing,
        max_encode=max_encode,
        max_decode=max_decode,
        wait_seconds=defaults.micro_batch_wait_ms / 1000.0,
        on_batch=lambda _, size: sizes.append(size),
        on_wait=lambda _stage, _seconds: None,
    )
    vision.start()
    try:
        found = {
            kind: await _kind(ways, images, rounds)
            for kind, ways in _ways(tokenizer, vision, images).items()
        }
    finally:
        await vision.stop()
    both = [[k["_ratios"]["batched"], k["_ratios"]["torch"]] for k in found.values()]
    return {
        "images": images,
        "rounds": rounds,
        "decode_dtype": str(tokenizer.decode_dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "micro_batch_size": {"encode": max_encode, "decode": max_decode},
        "largest_micro_batch": max(sizes),
        # Encoding and decoding count alike: a report needs the one, an image the other.
        "batched_vs_torch": paired_ratio(both[0][0] + both[1][0], both[0][1] + both[1][1]),
        **{kind: {k: v for k, v in f.items() if k != "_ratios"} for kind, f in found.items()},
    }


def _ways(tokenizer: ImageTokenizer, vision: Vision, images: int) -> dict[str, dict[str, _Way]]:
    dice = torch.Generator().manual_seed(0)
    config = tokenizer.config
    codes = torch.randint(config.codebook_size, (images, tokenizer.image_length), generator=dice)
    pixels = tokenizer.decode(codes)
    listed = codes.tolist()
    return {
        "encode": {
            "batched": lambda: _all([vision.encode(p) for p in pixels]),
            "single": lambda: _each([partial(vision.encode, p) for p in pixels]),
            **{str(b): _bare(tokenizer.encode, pixels, b) for b in BATCHES if b <= images},
        },
        "decode": {
            "batched": lambda: _all([vision.decode(c) for c in listed]),
            "single": lambda: _each([partial(vision.decode, c) for c in listed]),
            **{str(b): _bare(tokenizer.decode, codes, b) for b in BATCHES if b <= images},
        },
    }


async def _kind(ways: dict[str, _Way], images: int, rounds: int) -> Figures:
    names = list(ways)
    rates: dict[str, list[float]] = {name: [] for name in names}
    await ways["batched"]()
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            await ways[name]()
            rates[name].append(images / (time.perf_counter() - started))
    middle = {name: median(values) for name, values in rates.items()}
    best = max((name for name in names if name.isdigit()), key=middle.__getitem__)
    return {
        "batched_per_second": middle["batched"],
        "single_per_second": middle["single"],
        "torch_per_second": {name: middle[name] for name in names if name.isdigit()},
        "best_batch": int(best),
        "batched_vs_single": paired_ratio(rates["batched"], rates["single"]),
        "batched_vs_torch": paired_ratio(rates["batched"], rates[best]),
        "_ratios": {"batched": rates["batched"], "torch": rates[best]},
    }


async def _all(work: list[Coroutine[Any, Any, Any]]) -> None:
    await asyncio.gather(*work)


async def _each(work: list[Callable[[], Coroutine[Any, Any, Any]]]) -> None:
    for one in work:
        await one()


def _bare(work: Callable[[Tensor], Tensor], inputs: Tensor, batch: int) -> _Way:
    async def way() -> None:
        # In a thread, as the service does: else the ways would differ by that.
        await asyncio.to_thread(lambda: [work(part) for part in inputs.split(batch)])

    return way
