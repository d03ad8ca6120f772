"""`llmcxr-train self-instruct`: what the base model itself says, as training examples.

A fine-tuned model forgets the language that it is not shown. Answers sampled from the base model
at temperature 1 are a fair sample of its own distribution: the loss on them is least where the
model is what it was before (self-distillation). Half are answers to instructions, half are plain
text that goes on from a short opening.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from llmcxr_models.prompt import TEMPLATES
from llmcxr_training.base_model import load_base
from llmcxr_training.instructions import PlainInstruction, read_instructions
from llmcxr_training.precision import resolve_device, resolve_precision

_log = logging.getLogger(__name__)

_TOPICS = (
    "astronomy",
    "bees",
    "bridges",
    "castles",
    "chess",
    "coffee",
    "coral",
    "democracy",
    "deserts",
    "dictionaries",
    "dinosaurs",
    "earthquakes",
    "electricity",
    "engines",
    "football",
    "forests",
    "glass",
    "gold",
    "gravity",
    "horses",
    "ice",
    "islands",
    "jazz",
    "justice",
    "kings",
    "languages",
    "law",
    "lighthouses",
    "maps",
    "mathematics",
    "medicine",
    "memory",
    "metals",
    "migration",
    "money",
    "mountains",
    "museums",
    "music",
    "novels",
    "oceans",
    "opera",
    "painting",
    "paper",
    "philosophy",
    "photography",
    "plants",
    "poetry",
    "printing",
    "railways",
    "religion",
    "rivers",
    "roads",
    "salt",
    "schools",
    "ships",
    "silk",
    "snow",
    "songs",
    "stars",
    "steel",
    "storms",
    "television",
    "theatre",
    "time",
    "towns",
    "trade",
    "trees",
    "universities",
    "vaccines",
    "violins",
    "volcanoes",
    "war",
    "water",
    "weather",
    "whales",
    "windmills",
    "wine",
    "winter",
    "wood",
    "writing",
)

_ASKED = (
    "{}",
    "{}",
    "{} Answer briefly.",
    "{} Give a detailed answer.",
    "{} Explain your reasoning.",
    "Please help me with the following. {}",
)
_QUESTIONS = (
    "What should everybody know about {}?",
    "Write a short paragraph about {}.",
    "Explain {} to a child.",
    "Give three facts about {}.",
    "Write a short story in which {} matter.",
    "What are the advantages and disadvantages of {}?",
    "How did {} change in the last two hundred years?",
    "Write a polite email about {}.",
)
_OPENINGS = (
    "The history of {}",
    "The first book on {} was",
    "In {year} , the",
    "In {year}, {}",
    "He was born in {year} and",
    "She said that {}",
    "Although {} are",
    "According to a report on {},",
    "The town is known for {}",
    "During the war, {}",
    "After the release of the album ,",
    "The film was",
    "Many species of",
    "The battle",
)


def self_instruct(
    base: Path,
    instructions: Path,
    output: Path,
    *,
    count: int = 1500,
    seed: int = 0,
    max_tokens: int = 160,
    batch_size: int = 48,
    template: str = "smollm2",
) -> Path:
    """Write `count` examples as JSONL, in the layout that `read_instructions` reads.

    Args:
        base: language model: directory, `.gguf` or wheel.
        instructions: JSONL; its instructions are asked, its answers are not used.
        output: the file to write.
        count: examples in all.
        seed: of prompts and answers.
        max_tokens: longest answer; a longer one is cut, and is then taught without an ending.
        batch_size: answered at once.
        template: frames the instructions.
    """
    rng = random.Random(seed)  # noqa: S311  not for secrets
    asked = read_instructions(instructions)
    prompts = [_instruction(asked, rng) if n % 2 else _opening(rng) for n in range(count)]
    with TemporaryDirectory() as scratch:
        model, tokenizer = load_base(base, Path(scratch))
    device = resolve_device("auto")
    nn.Module.to(model, device, resolve_precision("auto", device))
    torch.manual_seed(seed)
    frames = [_framed(prompt, template) for prompt in prompts]
    # Alike in length: less padding is computed.
    order = sorted(range(count), key=lambda n: len(frames[n]))
    answers: dict[int, tuple[str, bool]] = {}
    for start in tqdm(range(0, count, batch_size), desc="self-instruct", unit="batch"):
        chosen = order[start : start + batch_size]
        texts = _answers(model, tokenizer, [frames[n] for n in chosen], max_tokens, template)
        answers.update(zip(chosen, texts, strict=True))
    records = [_record(p, *answers[n]) for n, p in enumerate(prompts) if answers[n][0].strip()]
    _log.info("%d examples, %d of them cut", len(records), sum(r["cut"] for r in records))
    temporary = output.with_suffix(output.suffix + ".tmp")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return temporary.replace(output)


def _instruction(asked: Sequence[PlainInstruction], rng: random.Random) -> PlainInstruction:
    if rng.random() < 0.5:
        question = rng.choice(_QUESTIONS).format(rng.choice(_TOPICS))
        return PlainInstruction(question, "", "")
    chosen = rng.choice(asked)
    return PlainInstruction(rng.choice(_ASKED).format(chosen.instruction), chosen.input, "")


def _opening(rng: random.Random) -> str:
    text = rng.choice(_OPENINGS).format(rng.choice(_TOPICS), year=rng.randint(1750, 2020))
    return text[0].upper() + text[1:]


def _framed(prompt: PlainInstruction | str, template: str) -> str:
    if isinstance(prompt, str):
        return prompt
    frame = TEMPLATES[template]
    text = frame.separator.join(part for part in (prompt.instruction, prompt.input) if part)
    return frame.opening + text + frame.closing


@torch.inference_mode()
def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_tokens: int,
    template: str,
) -> list[tuple[str, bool]]:
    """Sampled text after each prompt, and whether it was cut."""
    ending = tokenizer.convert_tokens_to_ids(TEMPLATES[template].ending)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    inputs: dict[str, Any] = dict(
        tokenizer(
            list(prompts),
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=400,
            add_special_tokens=False,
        ).to(model.device)
    )
    generated = model.generate(  # type: ignore[operator]
        **inputs,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_tokens,
        eos_token_id=ending,
        pad_token_id=ending,
    )
    ids = generated[:, inputs["input_ids"].shape[1] :].tolist()
    ended = [row.index(ending) if ending in row else None for row in ids]
    texts = [
        tokenizer.decode(r[:e], skip_special_tokens=True) for r, e in zip(ids, ended, strict=True)
    ]
    return [(str(text), end is None) for text, end in zip(texts, ended, strict=True)]


def _record(prompt: PlainInstruction | str, answer: str, cut: bool) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"text": prompt + answer, "cut": cut}
    return {
        "instruction": prompt.instruction,
        "context": prompt.input,
        "response": answer,
        "cut": cut,
    }
