"""What the tests of `llmcxr_training` share: tiny language models, a tokenizer, a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from llmcxr_models.vqgan import VqGan, VqGanConfig
from llmcxr_training.datasets import JsonlData
from llmcxr_training.finetune_settings import Finetuning
from llmcxr_training.instructions import Mixing
from llmcxr_training.language_model import ImageTextModel, Lora
from llmcxr_training.run_state import save_state, write_json
from llmcxr_training.stage import TOKENIZER_FOLDER, grow
from llmcxr_training.trained_vqgan import TrainedVqGan

WIDTH = 32
CODEBOOK = 16
TINY_VQGAN = VqGanConfig(
    image_size=32,
    image_channels=1,
    base_channels=8,
    channel_multipliers=(1, 1, 2, 2),
    res_blocks=1,
    attention_resolutions=(4,),
    latent_channels=8,
    codebook_dim=4,
    codebook_size=CODEBOOK,
    norm_groups=4,
)
FINDINGS = (
    ("The heart is normal in size.", "No acute abnormality.", ["normal"]),
    ("The heart is enlarged.", "Cardiomegaly.", ["Cardiomegaly/mild"]),
    ("There is a small left effusion.", "Effusion.", ["Pleural Effusion/left/small"]),
)

MakeModel = Callable[..., PreTrainedModel]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slowed down by threads, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """A tiny random language model of either family: make_model("llama", rows, tied=True)."""
    return _make_model


def _make_model(family: str, rows: int, *, tied: bool = True, seed: int = 0) -> PreTrainedModel:
    shape: dict[str, Any] = {
        "vocab_size": rows,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family == "llama":
            return LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2)).eval()
        return GPTNeoXForCausalLM(GPTNeoXConfig(**shape)).eval()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of some 300 entries with ChatML tokens, as a Hugging Face directory."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for row in FINDINGS for text in row[:2]], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    """A fresh copy, free to be extended."""
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A tiny tied Llama with its tokenizer, as a base model on disk; nobody may write to it."""
    return _save_base(tmp_path_factory.mktemp("base"), "llama", tokenizer_folder, tied=True)


@pytest.fixture(scope="session")
def neox_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """The same as an untied GPT-NeoX with more rows than the tokenizer has entries."""
    return _save_base(
        tmp_path_factory.mktemp("neox"), "neox", tokenizer_folder, tied=False, spare_rows=7
    )


def _save_base(
    folder: Path, family: str, tokenizer_folder: Path, *, tied: bool, spare_rows: int = 0
) -> Path:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.save_pretrained(folder)
    _make_model(family, len(tokenizer) + spare_rows, tied=tied).save_pretrained(folder)
    return folder


def write_vqgan(folder: Path, config: VqGanConfig = TINY_VQGAN, seed: int = 7) -> Path:
    """What a VQ-GAN run leaves: random weights and their description."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vqgan = VqGan(config)
        torch.nn.init.normal_(vqgan.quantize.embedding.weight)
    save_file(vqgan.state_dict(), folder / "vqgan.safetensors")
    write_json(
        folder / "vqgan.json",
        {
            "vqgan": config.to_dict(),
            "preprocessing": {"pipeline": "display", "geometry": "squash"},
            "steps": 0,
        },
    )
    return folder


@dataclass(frozen=True)
class DataSet:
    """A synthetic data set on disk.

    Attributes:
        manifest: JSONL of radiographs and reports, ten patients of train and three of val.
        instructions: JSONL of plain instructions.
    """

    manifest: Path
    instructions: Path


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Thirteen pictures with reports, and forty instructions; nobody may write to it."""
    folder = tmp_path_factory.mktemp("data")
    records = [write_record(folder, number) for number in range(13)]
    write_lines(folder / "manifest.jsonl", records)
    write_lines(
        folder / "instructions.jsonl",
        [
            {"instruction": f"Count to {n}.", "instances": [{"input": "", "output": f"{n} ok"}]}
            for n in range(40)
        ],
    )
    return DataSet(folder / "manifest.jsonl", folder / "instructions.jsonl")


def write_record(folder: Path, number: int, **changed: Any) -> dict[str, Any]:
    """Write a picture and return its line of the manifest; the last patients are `val`."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((40, 44), Image.Resampling.BICUBIC)
    picture.save(folder / f"{number}.png")
    findings, impression, labels = FINDINGS[number % len(FINDINGS)]
    return {
        "id": f"study-{number}",
        "file": f"{number}.png",
        "split": "train" if number < 10 else "val",
        "view": "PA",
        "patient_id": f"patient-{number}",
        "findings": findings,
        "impression": impression,
        "indication": "Chest pain." if number % 2 else "",
        "labels": {"mesh_major": labels},
        "collection": "indiana",
    } | changed


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Write JSONL."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


MakeConfig = Callable[..., Finetuning]


@pytest.fixture
def make_config(tmp_path: Path, data_set: DataSet, base_folder: Path) -> MakeConfig:
    """A tiny fine-tuning configuration with a VQ-GAN of its own; keywords win."""
    return config_maker(tmp_path, data_set, base_folder)


def config_maker(folder: Path, data_set: DataSet, base: Path) -> MakeConfig:
    """The same, in `folder`."""
    vqgan = write_vqgan(folder / "vqgan")

    def make(**changed: Any) -> Finetuning:
        settings: dict[str, Any] = {
            "base": base,
            "vqgan": vqgan,
            "data": JsonlData(manifest=data_set.manifest),
            "instructions": data_set.instructions,
            "output": folder / "finetune",
            "mixing": Mixing(prompt_image_weight=0.5),
            "lora": Lora(rank=4, alpha=8),
            "steps": 4,
            "batch_size": 4,
            "micro_batch_size": 4,
            "warmup_steps": 2,
            "validation_examples": 4,
            "device": "cpu",
            "precision": "float32",
        }
        return Finetuning(**(settings | changed))

    return make


def untrained(config: Finetuning) -> Finetuning:
    """The same, with the state of a run that has learnt nothing in its folder."""
    vqgan = TrainedVqGan.load(config.vqgan).vqgan
    grown = grow(config.base, vqgan, config.template, config.output / "scratch")
    grown.tokenizer.save_pretrained(config.output / TOKENIZER_FOLDER)
    model = ImageTextModel(grown.model, grown.vocabulary, config.lora)
    save_state(config.output, {"model": model.trained_state(), "step": 1, "seconds": 1.0})
    return config
