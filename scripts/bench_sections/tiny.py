"""A checkpoint of random weights that a real vLLM serves; `--quick` shows only that all runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tests.checkpoints import build_checkpoint
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmcxr_models.checkpoint import LLM_FOLDER, hash_files, read_manifest, write_manifest


def tiny_checkpoint(path: Path) -> Path:
    """The tests' checkpoint with a Llama of some 100,000 weights."""
    build_checkpoint(path)
    manifest = read_manifest(path)
    folder, vocabulary = path / LLM_FOLDER, manifest.vocabulary
    shape = LlamaConfig(
        vocab_size=vocabulary.size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # the smallest that vLLM's attention on a CPU knows
        max_position_embeddings=manifest.max_model_len,
        bos_token_id=None,
        eos_token_id=vocabulary.stop_token_ids[0],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|im_end|>"
    )
    tokenizer.save_pretrained(folder)
    write_manifest(path, replace(manifest, files=hash_files(path)))
    return path
