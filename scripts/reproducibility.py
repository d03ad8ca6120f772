"""How often the same seed gives the same answer beside other requests, by a real vLLM.

Starts a vLLM for a checkpoint, draws images and writes reports one at a time, then the same ones
again, several at a time, and all kinds at once, and compares token by token. Prints the figures
and writes them under the run's name into docs/reproducibility.json:

    python scripts/reproducibility.py --checkpoint checkpoints/demo --dtype bfloat16
    python scripts/reproducibility.py --checkpoint checkpoints/demo --dtype float32
    python scripts/reproducibility.py --checkpoint checkpoints/demo --dtype bfloat16 --sequences 1

The figures that are kept were made with `--image-tokens 64 --tokens 32 --at-once 4`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.prompt import Prompt, PromptBuilder
from llmcxr_models.vllm_distribution import vllm_version
from llmcxr_models.vocabulary import Vocabulary
from llmcxr_service.generator import Sampling, VllmGenerator
from llmcxr_service.vllm_process import VllmOptions, VllmState, VllmSupervisor

ROOT = Path(__file__).resolve().parent.parent
REPORTS = (
    "The heart is enlarged. Impression: Cardiomegaly.",
    "Heart size is normal. The lungs are clear. Impression: No acute disease.",
    "Small left pleural effusion. Impression: Left pleural effusion.",
    "Calcified granuloma in the right upper lobe. Impression: Calcified granuloma.",
)
Case = tuple[Prompt, Sampling]
Answers = list[tuple[int, ...]]
Figures = dict[str, dict[str, Any]]


class Experiment:
    """The same cases under several loads.

    Args:
        generator: asks vLLM.
        concurrencies: requests under way at the same time.
    """

    def __init__(self, generator: VllmGenerator, concurrencies: Sequence[int]) -> None:
        self._generator = generator
        self._concurrencies = concurrencies
        self._alone: dict[str, tuple[Sequence[Case], Answers]] = {}

    async def kind(self, name: str, cases: Sequence[Case]) -> tuple[Answers, dict[str, Any]]:
        """Answers alone, and how many of them are the same again and beside each other."""
        alone = await self._answers(cases, at_once=1)
        self._alone[name] = cases, alone
        figures: dict[str, Any] = {
            "answers": len(cases),
            "tokens": round(sum(map(len, alone)) / len(alone), 1),
            "alone again": compared(alone, await self._answers(cases, at_once=1)),
        }
        for n in self._concurrencies:
            figures[f"{n} at once"] = compared(alone, await self._answers(cases, at_once=n))
        return alone, figures

    async def mixed(self) -> Figures:
        """All cases of all kinds at once."""
        cases = [case for some, _ in self._alone.values() for case in some]
        answers = await self._answers(cases, at_once=len(cases))
        figures: Figures = {}
        for name, (_, alone) in self._alone.items():
            these, answers = answers[: len(alone)], answers[len(alone) :]
            figures[name] = compared(alone, these)
        return figures

    async def _answers(self, cases: Sequence[Case], *, at_once: int) -> Answers:
        """Each begins when one before it ends, so that batches change while they are computed."""
        room = asyncio.Semaphore(at_once)

        async def one(case: Case) -> tuple[int, ...]:
            async with room:
                return (await self._generator.generate(*case)).token_ids

        return list(await asyncio.gather(*map(one, cases)))


async def measure(
    experiment: Experiment, prompts: PromptBuilder, vocabulary: Vocabulary, args: argparse.Namespace
) -> AsyncIterator[Figures]:
    """Images, then reports about them; what is known so far, kind by kind."""
    drawn = [
        (
            _begun(prompts.image(REPORTS[i % len(REPORTS)]), args.image_tokens),
            Sampling(i, 0.85, 0.92),
        )
        for i in range(args.cases)
    ]
    name = "images, temperature 0.85"
    figures: Figures = {}
    images, figures[name] = await experiment.kind(name, drawn)
    yield figures
    # What was drawn is read, over and over where it is less than an image.
    codes = [
        [ids[i % len(ids)] - vocabulary.image_offset for i in range(vocabulary.image_length)]
        for ids in images
    ]
    for name, temperature in (("reports, greedy", 0.0), ("reports, temperature 1", 1.0)):
        written = [
            (prompts.report(one, max_tokens=args.tokens), Sampling(i, temperature))
            for i, one in enumerate(codes)
        ]
        _, figures[name] = await experiment.kind(name, written)
        yield figures
    for name, mixed in (await experiment.mixed()).items():
        figures[name]["all kinds at once"] = mixed
    yield figures


def compared(alone: Answers, other: Answers) -> dict[str, Any]:
    """How many are the same, and how long the others were."""
    lengths = [_common(a, b) for a, b in zip(alone, other, strict=True) if a != b]
    found: dict[str, Any] = {"the same": len(alone) - len(lengths)}
    return found | ({"first other token at": sorted(lengths)} if lengths else {})


def _begun(prompt: Prompt, tokens: int) -> Prompt:
    """The beginning of an image only: on two cores a whole one takes a minute."""
    most = min(tokens, prompt.constraint.max_tokens)
    return replace(prompt, constraint=replace(prompt.constraint, min_tokens=most, max_tokens=most))


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))


@asynccontextmanager
async def running_vllm(
    checkpoint: Checkpoint, options: VllmOptions
) -> AsyncIterator[VllmSupervisor]:
    """A vLLM that is ready; ended afterwards."""
    vllm = VllmSupervisor(checkpoint, options)
    await vllm.start()
    try:
        while not vllm.is_ready:
            if vllm.state is VllmState.WAITING:
                raise SystemExit(f"vLLM did not start; its log is {vllm.log_file}")
            await asyncio.sleep(0.5)
        yield vllm
    finally:
        await vllm.stop()


async def run(args: argparse.Namespace) -> None:
    """Start vLLM, measure, stop it."""
    checkpoint = Checkpoint.open(args.checkpoint, verify=False)
    manifest = checkpoint.manifest
    found = {
        "model": manifest.served_name,
        "vllm": vllm_version(),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "dtype": args.dtype,
        "eager": True,
        "sequences_at_once": args.sequences,
        "image_tokens": args.image_tokens,
        "longest_report": args.tokens,
    }
    options = VllmOptions(dtype=args.dtype, eager=True, max_num_seqs=args.sequences)
    async with (
        running_vllm(checkpoint, options) as vllm,
        httpx.AsyncClient(trust_env=False, timeout=600.0) as client,
    ):
        generator = VllmGenerator(client, vllm, manifest.served_name, timeout_seconds=600.0)
        experiment = Experiment(generator, args.at_once)
        prompts = checkpoint.load_prompts()
        async for figures in measure(experiment, prompts, manifest.vocabulary, args):
            keep(args, found | {"figures": figures})
    print(json.dumps(found | {"figures": figures}, indent=2))


def keep(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Put a run's figures beside those of the other runs."""
    name = args.dtype if args.sequences > 1 else f"{args.dtype}, one sequence at a time"
    kept = json.loads(args.output.read_text()) if args.output.exists() else {}
    text = json.dumps(kept | {name: found}, indent=2, sort_keys=True)
    args.output.write_text(text + "\n")


def main() -> None:
    """Measure, print JSON, and put it beside the other runs'."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--sequences", type=int, default=32, help="that vLLM works on at once")
    parser.add_argument("--cases", type=int, default=4, help="answers of each kind")
    parser.add_argument("--tokens", type=int, default=96, help="longest report")
    parser.add_argument("--image-tokens", type=int, default=256, help="of each image")
    parser.add_argument("--at-once", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--output", type=Path, default=ROOT / "docs/reproducibility.json")
    args = parser.parse_args()
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
