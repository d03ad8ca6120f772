"""How often the same seed gives the same answer beside other requests, by a vLLM that runs.

Draws images and reports one at a time, then the same ones at the same time, and compares token
by token:

    llmcxr vllm --port 8000 &
    python scripts/reproducibility.py --vllm http://127.0.0.1:8000 --checkpoint checkpoints/demo
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.prompt import Prompt
from llmcxr_service.generator import FixedEndpoint, Sampling, VllmGenerator

REPORTS = (
    "The heart is enlarged. Impression: Cardiomegaly.",
    "Heart size is normal. The lungs are clear. Impression: No acute disease.",
    "Small left pleural effusion. Impression: Left pleural effusion.",
    "Calcified granuloma in the right upper lobe. Impression: Calcified granuloma.",
)
Case = tuple[Prompt, Sampling]
Answers = list[tuple[int, ...]]


async def measure(
    generator: VllmGenerator, checkpoint: Checkpoint, args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Shares of answers that are the same as when they were asked for alone."""
    prompts, vocabulary = checkpoint.load_prompts(), checkpoint.manifest.vocabulary
    drawn = [
        (_shortened(prompts.image(REPORTS[i % len(REPORTS)]), args.tokens), Sampling(i, 0.85, 0.92))
        for i in range(args.cases)
    ]
    alone = await _one_by_one(generator, drawn)
    # What was drawn is read, over and over where it is less than an image.
    codes = [
        [ids[i % len(ids)] - vocabulary.image_offset for i in range(vocabulary.image_length)]
        for ids in alone
    ]
    figures = {"images, temperature 0.85": await _compare(generator, drawn, alone)}
    for name, temperature in (("reports, greedy", 0.0), ("reports, temperature 1", 1.0)):
        written = [
            (prompts.report(one, max_tokens=args.tokens), Sampling(i, temperature))
            for i, one in enumerate(codes)
        ]
        figures[name] = await _compare(generator, written, await _one_by_one(generator, written))
    return figures


def _shortened(prompt: Prompt, tokens: int) -> Prompt:
    most = min(tokens, prompt.constraint.max_tokens)
    return replace(prompt, constraint=replace(prompt.constraint, min_tokens=most, max_tokens=most))


async def _compare(
    generator: VllmGenerator, cases: Sequence[Case], alone: Answers
) -> dict[str, float]:
    again = await _one_by_one(generator, cases)
    together = [g.token_ids for g in await asyncio.gather(*(generator.generate(*c) for c in cases))]
    return {
        "answers": len(cases),
        "the same alone again": _share(alone, again),
        "the same at once": _share(alone, together),
        "tokens before the first other one": round(
            sum(_common(a, b) for a, b in zip(alone, together, strict=True)) / len(alone), 1
        ),
        "tokens": round(sum(map(len, alone)) / len(alone), 1),
    }


async def _one_by_one(generator: VllmGenerator, cases: Sequence[Case]) -> Answers:
    return [(await generator.generate(*case)).token_ids for case in cases]


def _share(left: Answers, right: Answers) -> float:
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))


async def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", required=True, help="its URL")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=8, help="answers of each kind, all at once")
    parser.add_argument("--tokens", type=int, default=256, help="longest answer")
    args = parser.parse_args()
    checkpoint = Checkpoint.open(args.checkpoint, verify=False)
    async with httpx.AsyncClient(trust_env=False, timeout=600.0) as client:
        generator = VllmGenerator(
            client,
            FixedEndpoint(args.vllm),
            checkpoint.manifest.served_name,
            timeout_seconds=600.0,
        )
        print(json.dumps(await measure(generator, checkpoint, args), indent=2))


if __name__ == "__main__":
    asyncio.run(main())
