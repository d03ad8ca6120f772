"""A tiny but real checkpoint: random VQ-GAN weights, and a tokenizer trained on three sentences.

It has no language model's weights: in these tests the language model is at the wire's other end.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from llmcxr_models.checkpoint import (
    LLM_FOLDER,
    TOKENIZER,
    VQGAN_WEIGHTS,
    Manifest,
    hash_files,
    write_manifest,
)
from llmcxr_models.preprocess import Preprocessing
from llmcxr_models.vocabulary import Vocabulary, image_token_name
from llmcxr_models.vqgan import VqGan, VqGanConfig

SENTENCES = (
    "Findings: The heart is normal in size. The lungs are clear. No pleural effusion.",
    "Impression: No acute cardiopulmonary abnormality. Write the radiology report.",
    "Generate a chest radiograph that matches this report. Is there a pneumothorax?",
)
CODEBOOK_SIZE = 32
VQGAN = VqGanConfig(
    image_size=64,
    image_channels=1,
    base_channels=8,
    channel_multipliers=(1, 1, 1, 1, 1),
    res_blocks=1,
    attention_resolutions=(4,),
    latent_channels=8,
    codebook_dim=8,
    codebook_size=CODEBOOK_SIZE,
    norm_groups=4,
)


def build_checkpoint(path: Path) -> Path:
    """Write a checkpoint directory and return it."""
    (path / LLM_FOLDER).mkdir(parents=True)
    tokenizer, image_offset = _tokenizer()
    tokenizer.save(str(path / TOKENIZER))
    (path / LLM_FOLDER / "config.json").write_text(json.dumps({"model_type": "llama"}))
    _vqgan_weights(path / VQGAN_WEIGHTS)
    stop = tokenizer.token_to_id("<|im_end|>")
    assert stop is not None
    vocabulary = Vocabulary(
        size=tokenizer.get_vocab_size(with_added_tokens=True),
        image_offset=image_offset,
        codebook_size=CODEBOOK_SIZE,
        image_length=VQGAN.grid_size**2,
        stop_token_ids=(stop,),
    )
    manifest = Manifest(
        name="tiny",
        version="0.0.1",
        template="smollm2",
        vocabulary=vocabulary,
        vqgan=VQGAN,
        preprocessing=Preprocessing(image_size=VQGAN.image_size, channels=1),
        views=("frontal",),
        max_model_len=400,
        files=hash_files(path),
        provenance={"data": "none: random weights for tests"},
    )
    write_manifest(path, manifest)
    return path


def _tokenizer() -> tuple[Tokenizer, int]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    image_offset = tokenizer.get_vocab_size(with_added_tokens=True)
    names = [image_token_name(code) for code in range(CODEBOOK_SIZE)]
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names]
    )
    return tokenizer, image_offset


def _vqgan_weights(path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        vqgan = VqGan(VQGAN)
        # As initialised, all vectors are nearest to the same few entries.
        torch.nn.init.normal_(vqgan.quantize.embedding.weight)
    save_file(vqgan.state_dict(), path)
