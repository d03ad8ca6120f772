"""`llmcxr-train synthesise`: drawn radiographs with reports and a random language model, to try
every command on in minutes and without anybody's data. What is learnt from them means nothing.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MANIFEST, INSTRUCTIONS, BASE = "manifest.jsonl", "instructions.jsonl", "base"

_SIDE = 64
_SPLITS = ("train",) * 8 + ("val",) * 2 + ("test",)
_CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@dataclass(frozen=True)
class _Kind:
    """A kind of study.

    Attributes:
        heart: half its width, as a share of the picture.
        effusion: how high fluid stands on one side, as a share of the picture.
    """

    heart: float
    effusion: float
    findings: str
    impression: str
    label: str


_KINDS = (
    _Kind(0.13, 0.0, "The heart is normal in size. Lungs are clear.", "Normal chest.", "normal"),
    _Kind(0.24, 0.0, "The heart is enlarged. Lungs are clear.", "Cardiomegaly.", "Cardiomegaly"),
    _Kind(
        *(0.13, 0.3, "There is a small left pleural effusion.", "Pleural effusion."),
        "Pleural Effusion/left/small",
    ),
)


def synthesise(folder: Path, *, patients: int = 66, seed: int = 0) -> Path:
    """Write data set, instructions and base model into `folder`; returns the manifest.

    Every third patient comes twice, every fourth visit has a lateral view as well.
    """
    rng = random.Random(seed)  # noqa: S311  pictures, no secrets
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for patient in range(patients):
        for visit in range(2 if patient % 3 == 0 else 1):
            kind = _KINDS[rng.randrange(len(_KINDS))]
            views = ("PA", "lateral") if rng.random() < 0.25 else ("PA",)
            records += [_record(folder, patient, visit, view, kind, rng) for view in views]
    _write_lines(folder / MANIFEST, records)
    plain = [
        {"instruction": f"Say {n} twice.", "context": "", "response": f"{n} {n}"} for n in range(60)
    ]
    _write_lines(folder / INSTRUCTIONS, plain)
    _write_base(folder / BASE, seed)
    return folder / MANIFEST


def _record(
    folder: Path, patient: int, visit: int, view: str, kind: _Kind, rng: random.Random
) -> dict[str, Any]:
    id_ = f"p{patient:03}-{visit}-{view}"
    file = f"images/{id_}.png"
    Image.fromarray(_draw(kind, view, np.random.default_rng(rng.getrandbits(32)))).save(
        folder / file
    )
    return {
        "id": id_,
        "file": file,
        "split": _SPLITS[patient % len(_SPLITS)],
        "view": view,
        "patient_id": f"p{patient:03}",
        "study_id": f"p{patient:03}-{visit}",
        "taken": f"2020-01-{visit + 1:02}",
        "findings": kind.findings,
        "impression": kind.impression,
        "indication": "Cough." if patient % 2 else "",
        "labels": {"mesh_major": [kind.label]},
    }


def _draw(kind: _Kind, view: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two dark lungs in a bright body, a heart between them, and perhaps fluid."""
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j] + rng.normal(0, 0.02, (2, 1, 1))
    grey = np.full((_SIDE, _SIDE), 170.0)
    for centre in (0.28, 0.72) if view != "lateral" else (0.5,):
        grey[((x - centre) / 0.2) ** 2 + ((y - 0.45) / 0.36) ** 2 < 1] = 60.0
    grey[((x - 0.55) / kind.heart) ** 2 + ((y - 0.62) / 0.17) ** 2 < 1] = 200.0
    grey[(x > 0.55) & (y > 0.85 - kind.effusion) & (y < 0.85)] += 90.0 * (kind.effusion > 0)
    return (grey + rng.normal(0, 6, grey.shape)).clip(0, 255).astype(np.uint8)


def _write_base(folder: Path, seed: int) -> None:
    """A Llama of some 30,000 weights with a byte-level tokenizer of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_CHATML,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for kind in _KINDS for text in (kind.findings, kind.impression)]
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_CHATML[2], pad_token=_CHATML[2]
    )
    wrapped.save_pretrained(folder)
    shape = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(shape).save_pretrained(folder)


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
