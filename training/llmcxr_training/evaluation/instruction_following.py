"""`instructions.*`: instructions that a program can check, to the checkpoint and to its base model.

Both answer greedily, in the same frame and by the same code. An answer passes or fails by what
its instruction states; nobody judges style or truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from llmcxr_models.checkpoint import LLM_FOLDER, Checkpoint
from llmcxr_training.base_model import load_base
from llmcxr_training.evaluation.figures import Figures
from llmcxr_training.evaluation.held_out_tasks import TASKS
from llmcxr_training.evaluation.language_measures import digest_of_base
from llmcxr_training.evaluation.settings import Evaluation
from llmcxr_training.metrics.intervals import Indices, bootstrap, bootstrap_mean
from llmcxr_training.precision import autocast, resolve_device, resolve_precision
from llmcxr_training.run_state import write_json

BATCH = 8


def instruction_measures(
    figures: Figures, config: Evaluation, checkpoint: Checkpoint, folder: Path
) -> list[dict[str, Any]]:
    """Add the share of instructions that are followed, beside the base model's.

    Returns:
        Each instruction with both answers and whether they pass.

    Raises:
        BaseModelError: the base model cannot be loaded.
    """
    weights = [d for n, d in checkpoint.manifest.files.items() if n.startswith(f"{LLM_FOLDER}/")]

    def ours() -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            checkpoint.llm_path, local_files_only=True, dtype=torch.float32
        )
        return model

    def base() -> PreTrainedModel:
        with TemporaryDirectory(dir=folder) as scratch:
            return load_base(config.base, Path(scratch))[0]

    answers = {
        "answer": _answers(config, checkpoint, folder, "".join(weights), ours),
        "base_answer": _answers(config, checkpoint, folder, digest_of_base(config.base), base),
    }
    table = [
        {
            "instruction": task.instruction,
            "input": task.input,
            **{name: texts[row] for name, texts in answers.items()},
            "passed": task.passes(answers["answer"][row]),
            "base_passed": task.passes(answers["base_answer"][row]),
        }
        for row, task in enumerate(TASKS)
    ]
    _add(figures, table, config.resamples)
    return table


def _add(figures: Figures, table: Sequence[dict[str, Any]], resamples: int) -> None:
    passed, base = (
        np.array([row[name] for row in table], np.float64) for name in ("passed", "base_passed")
    )
    figures.add("instructions.passed", bootstrap_mean(passed, resamples=resamples))
    figures.add("instructions.base.passed", bootstrap_mean(base, resamples=resamples))

    def difference(rows: Indices) -> float:
        return float((passed[rows] - base[rows]).mean())

    over = bootstrap(difference, len(passed), resamples=resamples)
    figures.add("instructions.passed.over_base", over)


def _answers(
    config: Evaluation,
    checkpoint: Checkpoint,
    folder: Path,
    model_digest: str,
    load: Any,  # noqa: ANN401
) -> list[str]:
    """Kept under everything that they depend on."""
    builder = checkpoint.load_prompts()
    prompts = [
        builder.instruction(task.instruction, task.input, max_tokens=config.instruction_tokens)
        for task in TASKS
    ]
    device = resolve_device(config.device)
    dtype = resolve_precision(config.precision, device)
    settings = (config.instruction_tokens, str(dtype))
    said = json.dumps([model_digest, [p.token_ids for p in prompts], *settings])
    path = folder / f"instructions-{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        model = nn.Module.to(load(), device).eval()
        stop = checkpoint.manifest.vocabulary.stop_token_ids
        with autocast(device, dtype):
            ids = greedy(model, [p.token_ids for p in prompts], stop, prompts[0].constraint)
        tokenizer = checkpoint.load_tokenizer()
        write_json(path, [tokenizer.decode(answer).strip() for answer in ids])
    texts: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return texts


@torch.inference_mode()
def greedy(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    stop_token_ids: Sequence[int],
    constraint: Any,  # noqa: ANN401
) -> list[list[int]]:
    """Greedy answers, in batches that are padded on the left.

    Args:
        model: a causal language model.
        prompts: token ids.
        stop_token_ids: end an answer; not part of it.
        constraint: what may not be said, and the longest answer.
    """
    size = model.get_output_embeddings().weight.shape[0]
    generate: Any = model.generate
    how = GenerationConfig(
        do_sample=False,
        max_new_tokens=constraint.max_tokens,
        eos_token_id=list(stop_token_ids),
        pad_token_id=stop_token_ids[0],
        # A base model has no image tokens.
        suppress_tokens=[i for i in constraint.forbidden_token_ids if i < size] or None,
    )
    found: list[list[int]] = []
    for start in tqdm(range(0, len(prompts), BATCH), desc="instructions", unit="batch"):
        part = prompts[start : start + BATCH]
        longest = max(map(len, part))
        ids = torch.full((len(part), longest), stop_token_ids[0])
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(part):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        device = model.device
        out = generate(ids.to(device), attention_mask=mask.to(device), generation_config=how)
        found += [_until_stop(answer, stop_token_ids) for answer in out[:, longest:].tolist()]
    return found


def _until_stop(answer: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    ends = [place for place, token in enumerate(answer) if token in stop_token_ids]
    return answer[: ends[0]] if ends else answer
