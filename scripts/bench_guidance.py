"""What guidance costs: the same images drawn with and without it, in turns, by one vLLM.

python scripts/bench_guidance.py [CHECKPOINT] [--images 16] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.guidance import Guidance, guide
from llmcxr_training.evaluation.answers import Question
from llmcxr_training.evaluation.settings import Engine, ImageSampling
from llmcxr_training.evaluation.vllm_generator import VllmGenerator
from llmcxr_training.precision import resolve_device, resolve_precision

REPORT = "Findings: The heart is enlarged. There is a left pleural effusion. Impression: Same."


def main() -> None:
    """Print the seconds of each round and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/demo"))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    checkpoint = Checkpoint.open(args.checkpoint)
    if checkpoint.manifest.guidance is None:
        raise SystemExit("this checkpoint has no guidance")
    dtype = resolve_precision("auto", resolve_device("auto"))
    generator = VllmGenerator(checkpoint, Engine(), dtype)
    guidance = guide(REPORT, checkpoint.manifest.guidance)
    prompt, sampling = checkpoint.load_prompts().image(REPORT), ImageSampling()

    def seconds(how: Guidance | None) -> float:
        asked = [
            Question(prompt, sampling.temperature, sampling.top_p, seed, how)
            for seed in range(args.images)
        ]
        started = time.perf_counter()
        answers = dict(generator.generate(asked))
        assert len(answers) == args.images
        return time.perf_counter() - started

    seconds(None), seconds(guidance)  # neither is the first
    ratios = []
    for number in range(args.rounds):
        turns: list[Guidance | None] = [None, guidance] if number % 2 else [guidance, None]
        took = {how is None: seconds(how) for how in turns}
        ratios.append(took[False] / took[True])
        print(f"alone {took[True]:.1f} s, guided {took[False]:.1f} s: {ratios[-1]:.3f}", flush=True)
    kind = str(dtype).removeprefix("torch.")
    print(
        f"{args.images} images at once, {kind}, {torch.get_num_threads()} threads:"
        f" guided over alone {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
