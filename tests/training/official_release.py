"""A release of the official kind with random weights, and its arithmetic written out.

Names, shapes and formulas follow the published architecture (arXiv 2012.09841 and its public
implementation); nothing here uses our own modules, so that it can judge them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

ENTRIES = 50281
CODES = 1024
SPECIAL = ("### End", "### Instruction:", "### Response:", "### Response:\n")
"""The base model (databricks/dolly-v2-3b) brought the third; the fourth contains it."""
SENTENCES = (
    "Below is an instruction that describes a task. Write a response that appropriately"
    " completes the request.\n\nInput:\n<image>\n\nThe heart is enlarged.\n\n",
    "Write the radiology report for this chest radiograph.\nIndication: cough.\n\n",
    "Generate a chest radiograph that matches this report.\n\nFindings: no effusion.\n\n",
)


@dataclass(frozen=True)
class Ddconfig:
    """The published geometry, under the project file's own names."""

    double_z: bool = False
    z_channels: int = 256
    resolution: int = 256
    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.0


SMALL = Ddconfig(z_channels=8, resolution=32, ch=32, ch_mult=(1, 2), num_res_blocks=1)


def project(network: Ddconfig, embed_dim: int) -> dict[str, Any]:
    """The project file as a dictionary."""
    listed = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(network).items()}
    loss = {"target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"}
    params = {"embed_dim": embed_dim, "n_embed": CODES, "ddconfig": listed, "lossconfig": loss}
    model = {"base_learning_rate": 4.5e-6, "target": "taming.models.vqgan.VQModel"}
    return {"model": model | {"params": params}, "data": {"target": "main.DataModuleFromConfig"}}


# --- Shapes ---------------------------------------------------------------------------------


@dataclass
class Shapes:
    """Collects the names and shapes of a state dict."""

    found: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def convolution(self, name: str, into: int, out: int, side: int) -> None:
        self.found |= {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}

    def norm(self, name: str, width: int) -> None:
        self.found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    def residual(self, name: str, into: int, out: int) -> None:
        self.norm(f"{name}.norm1", into)
        self.convolution(f"{name}.conv1", into, out, 3)
        self.norm(f"{name}.norm2", out)
        self.convolution(f"{name}.conv2", out, out, 3)
        if into != out:
            self.convolution(f"{name}.nin_shortcut", into, out, 1)

    def attention(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.convolution(f"{name}.{part}", width, width, 1)

    def middle(self, name: str, width: int) -> None:
        self.residual(f"{name}.block_1", width, width)
        self.attention(f"{name}.attn_1", width)
        self.residual(f"{name}.block_2", width, width)


def vqgan_shapes(network: Ddconfig, embed_dim: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of VQModel's weights, losses left out."""
    shapes, last = Shapes(), len(network.ch_mult) - 1
    shapes.convolution("encoder.conv_in", network.in_channels, network.ch, 3)
    width, side = network.ch, network.resolution
    for level, multiplier in enumerate(network.ch_mult):
        for block in range(network.num_res_blocks):
            shapes.residual(f"encoder.down.{level}.block.{block}", width, network.ch * multiplier)
            width = network.ch * multiplier
            if side in network.attn_resolutions:
                shapes.attention(f"encoder.down.{level}.attn.{block}", width)
        if level < last:
            shapes.convolution(f"encoder.down.{level}.downsample.conv", width, width, 3)
            side //= 2
    for part, into, out in (
        ("encoder", width, network.z_channels),
        ("decoder", network.ch * network.ch_mult[0], network.out_ch),
    ):
        shapes.middle(f"{part}.mid", width)
        shapes.norm(f"{part}.norm_out", into)
        shapes.convolution(f"{part}.conv_out", into, out, 3)
    shapes.convolution("decoder.conv_in", network.z_channels, width, 3)
    for level in range(last, -1, -1):
        for block in range(network.num_res_blocks + 1):
            out = network.ch * network.ch_mult[level]
            shapes.residual(f"decoder.up.{level}.block.{block}", width, out)
            width = out
            if side in network.attn_resolutions:
                shapes.attention(f"decoder.up.{level}.attn.{block}", width)
        if level > 0:
            shapes.convolution(f"decoder.up.{level}.upsample.conv", width, width, 3)
            side *= 2
    shapes.convolution("quant_conv", network.z_channels, embed_dim, 1)
    shapes.convolution("post_quant_conv", embed_dim, network.z_channels, 1)
    return shapes.found | {"quantize.embedding.weight": (CODES, embed_dim)}


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep activations near unit variance, so that codes are far from ties."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            return values / (shape[1] * shape[2] * shape[3]) ** 0.5
        if len(shape) == 2:
            return values
        return values * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)

    return {name: draw(name, shape) for name, shape in shapes.items()}


# --- Arithmetic -----------------------------------------------------------------------------


class Arithmetic:
    """Encoding and decoding, formula by formula, on a state dict."""

    def __init__(self, weights: dict[str, Tensor], network: Ddconfig) -> None:
        self.weights, self.network = weights, network

    def encode(self, pixels: Tensor) -> Tensor:
        """Codes (B, h*w) of pixels (B, C, S, S)."""
        network, x = self.network, self._convolve("encoder.conv_in", pixels, padding=1)
        for level in range(len(network.ch_mult)):
            for block in range(network.num_res_blocks):
                x = self._block(f"encoder.down.{level}", block, x)
            if level < len(network.ch_mult) - 1:
                padded = F.pad(x, (0, 1, 0, 1), value=0.0)
                x = self._convolve(f"encoder.down.{level}.downsample.conv", padded, stride=2)
        z = self._convolve("quant_conv", self._tail("encoder", self._middle("encoder", x)))
        z = z.permute(0, 2, 3, 1)
        flat, codebook = z.reshape(-1, z.shape[-1]), self.weights["quantize.embedding.weight"]
        squares = flat.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1)
        distances = squares - 2 * torch.einsum("nd,kd->nk", flat, codebook)
        return distances.argmin(1).view(len(pixels), -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Pixels (B, C, S, S) of codes (B, h*w)."""
        side = int(codes.shape[1] ** 0.5)
        vectors = self.weights["quantize.embedding.weight"][codes]
        z = vectors.view(len(codes), side, side, -1).permute(0, 3, 1, 2)
        z = self._convolve("post_quant_conv", z)
        x = self._middle("decoder", self._convolve("decoder.conv_in", z, padding=1))
        for level in reversed(range(len(self.network.ch_mult))):
            for block in range(self.network.num_res_blocks + 1):
                x = self._block(f"decoder.up.{level}", block, x)
            if level > 0:
                larger = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
                x = self._convolve(f"decoder.up.{level}.upsample.conv", larger, padding=1)
        return self._tail("decoder", x)

    def _convolve(self, name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], **how)

    def _normalise(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.group_norm(x, 32, weight, bias, 1e-6)

    def _swish(self, name: str, x: Tensor) -> Tensor:
        x = self._normalise(name, x)
        return x * torch.sigmoid(x)

    def _residual(self, name: str, x: Tensor) -> Tensor:
        h = self._convolve(f"{name}.conv1", self._swish(f"{name}.norm1", x), padding=1)
        h = self._convolve(f"{name}.conv2", self._swish(f"{name}.norm2", h), padding=1)
        if f"{name}.nin_shortcut.weight" in self.weights:
            x = self._convolve(f"{name}.nin_shortcut", x)
        return x + h

    def _attention(self, name: str, x: Tensor) -> Tensor:
        batch, width, height, across = x.shape
        h = self._normalise(f"{name}.norm", x)
        q, k, v = (
            self._convolve(f"{name}.{part}", h).reshape(batch, width, height * across)
            for part in ("q", "k", "v")
        )
        scores = torch.bmm(q.transpose(1, 2), k) * width**-0.5  # (B, query, key)
        attended = torch.bmm(v, scores.softmax(2).transpose(1, 2))
        return x + self._convolve(f"{name}.proj_out", attended.view_as(x))

    def _block(self, level: str, block: int, x: Tensor) -> Tensor:
        x = self._residual(f"{level}.block.{block}", x)
        attention = f"{level}.attn.{block}"
        return self._attention(attention, x) if f"{attention}.q.weight" in self.weights else x

    def _middle(self, part: str, x: Tensor) -> Tensor:
        x = self._attention(f"{part}.mid.attn_1", self._residual(f"{part}.mid.block_1", x))
        return self._residual(f"{part}.mid.block_2", x)

    def _tail(self, part: str, x: Tensor) -> Tensor:
        return self._convolve(f"{part}.conv_out", self._swish(f"{part}.norm_out", x), padding=1)


# --- Files ----------------------------------------------------------------------------------


def write_vqgan(folder: Path, network: Ddconfig, weights: dict[str, Tensor]) -> None:
    """`last.ckpt` as a Lightning run of taming-transformers leaves it, and `project.yaml`."""
    embed_dim = weights["quantize.embedding.weight"].shape[1]
    (folder / "project.yaml").write_text(yaml.safe_dump(project(network, embed_dim)))
    losses = {
        "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4),
        "loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1, 4, 1, 1),
    }
    with lightning_installed() as callback:
        state = {"best_model_score": torch.tensor(0.5), "best_model_path": "a/b.ckpt"}
        checkpoint = {
            "epoch": 3,
            "global_step": 12345,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {callback: state},
            "optimizer_states": [],
            "lr_schedulers": [],
            "state_dict": weights | losses,
        }
        torch.save(checkpoint, folder / "last.ckpt")


@contextmanager
def lightning_installed() -> Iterator[type]:
    """A Lightning callback's class under its own name, for as long as a pickle is written."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks"]
    names.append(f"{names[-1]}.model_checkpoint")
    assert not set(names) & set(sys.modules)
    callback = type("ModelCheckpoint", (), {"__module__": names[-1]})
    for name in names:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].ModelCheckpoint = callback  # type: ignore[attr-defined]
    try:
        yield callback
    finally:
        for name in names:
            del sys.modules[name]


def neox_tokenizer() -> Tokenizer:
    """A byte-level BPE like GPT-NeoX's, padded so that with dolly's tokens it has 50281 entries."""
    spaces = [" " * count for count in range(24, 1, -1)]
    tokenizer = _trained(len(spaces) + len(SPECIAL))
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in spaces])
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in SPECIAL])
    return tokenizer


def _trained(added: int) -> Tokenizer:
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    vocabulary = learnt["vocab"]
    for number in range(len(vocabulary), ENTRIES - added):
        vocabulary[f"filler{number}"] = number  # no merge leads here
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt["merges"]]
    padded = _byte_level(models.BPE(vocabulary, merges))
    padded.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    return padded


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """The tokenizer's files as transformers 4 wrote them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    common = {f"{role}_token": "<|endoftext|>" for role in ("bos", "eos", "unk")}
    config = {"add_prefix_space": False, "tokenizer_class": "GPTNeoXTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(common | config))
    special = {"additional_special_tokens": list(SPECIAL), "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(common | special))


def make_model(rows: int, dtype: torch.dtype) -> GPTNeoXForCausalLM:
    """A GPT-NeoX with dolly's settings but for its width and depth."""
    config = GPTNeoXConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return GPTNeoXForCausalLM(config).to(dtype).eval()


def write_llm(folder: Path, model: GPTNeoXForCausalLM) -> None:
    """`pytorch_model.bin` and `config.json` as transformers 4 wrote them."""
    config = model.config
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layer in range(config.num_hidden_layers):
        attention = f"gpt_neox.layers.{layer}.attention"
        state[f"{attention}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        state[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        state[f"{attention}.rotary_emb.inv_freq"] = torch.ones(1)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    same = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    same += ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id")
    settings = {name: getattr(config, name) for name in same} | {
        "_name_or_path": "/somewhere/else",
        "architectures": ["GPTNeoXForCausalLM"],
        "custom_pipelines": {"text-generation": {"impl": "instruct_pipeline.Pipeline"}},
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "model_type": "gpt_neox",
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": str(model.dtype).removeprefix("torch."),
        "transformers_version": "4.28.1",
        "use_parallel_residual": True,
    }
    (folder / "config.json").write_text(json.dumps(settings))
