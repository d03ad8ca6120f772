"""The VQ-GAN: a radiograph of 256x256 pixels to 16x16 codebook vectors and back.

Architecture of Esser et al., "Taming Transformers" (arXiv 2012.09841), which LLM-CXR uses
(arXiv 2305.11490, section 3.1). Submodules carry the names of that public implementation, so
a released VQ-GAN loads by its own keys. Losses and the discriminator are training's business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmcxr_models.errors import InvalidCheckpoint


@dataclass(frozen=True)
class VqGanConfig:
    """Geometry of a VQ-GAN. The defaults are the published LLM-CXR tokenizer's.

    Attributes:
        image_size: height and width of the square input, pixels.
        image_channels: channels of the input (1 greyscale, 3 where greyscale is repeated).
        base_channels: width of the first convolution.
        channel_multipliers: width of each resolution level, as multiples of `base_channels`;
            each level but the last halves the resolution.
        res_blocks: residual blocks in each encoder level (the decoder has one more).
        attention_resolutions: feature-map sides at which self-attention is added.
        latent_channels: channels before the quantiser's projection.
        codebook_dim: length of a codebook vector.
        codebook_size: number of codebook vectors.
        norm_groups: groups of every group normalisation.
        upsampling: how the decoder doubles a resolution: `nearest`, as published, or `bilinear`,
            which has no grid for an adversary to sharpen.
        decoder_noise: whether the decoder has fixed noise to make texture of; not published.
    """

    image_size: int = 256
    image_channels: int = 3
    base_channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    latent_channels: int = 256
    codebook_dim: int = 256
    codebook_size: int = 1024
    norm_groups: int = 32
    upsampling: str = "nearest"
    decoder_noise: bool = False

    def __post_init__(self) -> None:
        if self.upsampling not in ("nearest", "bilinear"):
            raise InvalidCheckpoint("upsampling is nearest or bilinear.")
        if self.image_channels not in (1, 3):
            raise InvalidCheckpoint("image_channels is 1 or 3.")
        if self.image_size % self.downsampling:
            raise InvalidCheckpoint("image_size is no multiple of the downsampling factor.")
        if any(c % self.norm_groups for c in self.level_channels):
            raise InvalidCheckpoint("norm_groups must divide the channels of every level.")

    @property
    def downsampling(self) -> int:
        """Pixels along one side that one code stands for."""
        return int(2 ** (len(self.channel_multipliers) - 1))

    @property
    def grid_size(self) -> int:
        """Codes along one side of the image."""
        return self.image_size // self.downsampling

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each resolution level, finest first."""
        return tuple(self.base_channels * m for m in self.channel_multipliers)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VqGanConfig:
        """The inverse of `to_dict`.

        Raises:
            InvalidCheckpoint: an unknown or ill-typed field.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidCheckpoint(f"unknown VQ-GAN settings: {', '.join(unknown)}.")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; what is published is not said, so that older manifests stay equal."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        for name, published in (("upsampling", "nearest"), ("decoder_noise", False)):
            if values[name] == published:
                del values[name]
        return values


class Quantized(NamedTuple):
    """What the quantiser makes of encoder output.

    Attributes:
        latents: (B, codebook_dim, h, w), codebook vectors; gradients pass straight through.
        codes: (B, h, w) codebook indices, int64.
        encoded: (B, codebook_dim, h, w), the encoder's own vectors, before quantisation.
    """

    latents: Tensor
    codes: Tensor
    encoded: Tensor


class VectorQuantizer(nn.Module):
    """Nearest codebook vector by Euclidean distance (van den Oord et al., arXiv 1711.00937)."""

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook_size, codebook_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / codebook_size, 1.0 / codebook_size)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices (N,) of the codebook vectors nearest to `vectors` (N, codebook_dim)."""
        # In float32 whatever the surrounding precision: a tie decided by rounding would make
        # the same radiograph two different token sequences.
        with torch.autocast(vectors.device.type, enabled=False):
            flat = vectors.float()
            codebook = self.embedding.weight.float()
            distances = codebook.square().sum(1) - 2.0 * flat @ codebook.t()
        return distances.argmin(dim=1)

    def forward(self, encoded: Tensor) -> Quantized:
        """Quantise (B, codebook_dim, h, w)."""
        batch, dim, height, width = encoded.shape
        flat = encoded.permute(0, 2, 3, 1).reshape(-1, dim)
        codes = self.nearest(flat)
        vectors = self.embedding(codes).view(batch, height, width, dim).permute(0, 3, 1, 2)
        latents = encoded + (vectors - encoded).detach()
        return Quantized(latents, codes.view(batch, height, width), encoded)


class ResidualBlock(nn.Module):
    """norm, SiLU, 3x3 convolution, twice; a 1x1 convolution where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, norm_groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels, norm_groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, out_channels, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut: Tensor = x if self.nin_shortcut is None else self.nin_shortcut(x)
        out: Tensor = h + shortcut
        return out


class SpatialAttention(nn.Module):
    """Single-head self-attention over all positions of a feature map."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, norm_groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        batch, channels, height, width = x.shape
        h = self.norm(x)
        q, k, v = (
            layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, 1, h*w, C)
        attended = attended.squeeze(1).transpose(1, 2).reshape(batch, channels, height, width)
        projected: Tensor = self.proj_out(attended)
        return x + projected


class _Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, norm_groups)
        self.attn_1 = SpatialAttention(channels, norm_groups)
        self.block_2 = ResidualBlock(channels, channels, norm_groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class _Downsample(nn.Module):
    """Halve the resolution. Pads right and below only, as the released weights expect."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class _Upsample(nn.Module):
    """Double the resolution: nearest neighbour or bilinear, then a convolution."""

    def __init__(self, channels: int, upsampling: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampling = upsampling

    def forward(self, x: Tensor) -> Tensor:
        smooth = {"align_corners": False} if self.upsampling == "bilinear" else {}
        doubled = F.interpolate(x, scale_factor=2.0, mode=self.upsampling, **smooth)
        out: Tensor = self.conv(doubled)
        return out


class _FixedNoise(nn.Module):
    """Adds the same noise to every image, by a learnt amount in each channel; none at first.

    A code stands for 16x16 pixels and says little of where their grain lies. From smooth maps
    alone a decoder can only blur it or repeat a pattern; from noise it can shape some (Karras et
    al., arXiv 1812.04948, section 3.2). Fixed, and kept with the weights: the same codes are the
    same pixels.
    """

    pattern: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(side)
        self.register_buffer("pattern", torch.randn(1, 1, side, side, generator=generator))
        self.amount = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, side, side), the same shape."""
        return x + (self.amount * self.pattern).to(x.dtype)


class _Level(nn.Module):
    """Residual blocks of one resolution, with attention where asked for; then on to the next."""

    def __init__(self, widths: list[tuple[int, int]], attention: bool, norm_groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(i, o, norm_groups) for i, o in widths)
        self.attn = nn.ModuleList(SpatialAttention(o, norm_groups) for _, o in widths if attention)
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        for change in (self.downsample, self.upsample):
            if change is not None:
                x = change(x)
        return x


class Encoder(nn.Module):
    """Pixels (B, C, S, S) -> latents (B, latent_channels, S/f, S/f)."""

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        self.conv_in = nn.Conv2d(config.image_channels, config.base_channels, 3, padding=1)
        self.down = nn.ModuleList()
        side, width = config.image_size, config.base_channels
        for index, out in enumerate(widths):
            blocks = [(width, out)] + [(out, out)] * (config.res_blocks - 1)
            level = _Level(blocks, side in config.attention_resolutions, groups)
            if index < len(widths) - 1:
                level.downsample = _Downsample(out)
                side //= 2
            self.down.append(level)
            width = out
        self.mid = _Middle(width, groups)
        self.norm_out = _norm(width, groups)
        self.conv_out = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode one batch."""
        h = self.conv_in(pixels)
        for level in self.down:
            h = level(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return out


class Decoder(nn.Module):
    """Latents (B, latent_channels, S/f, S/f) -> pixels (B, C, S, S)."""

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        widths, groups = config.level_channels, config.norm_groups
        width = widths[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = _Middle(width, groups)
        levels: list[_Level] = []
        noise: list[_FixedNoise] = []
        side = config.grid_size
        for index in reversed(range(len(widths))):
            out = widths[index]
            if config.decoder_noise:
                noise.insert(0, _FixedNoise(width, side))
            blocks = [(width, out)] + [(out, out)] * config.res_blocks
            level = _Level(blocks, side in config.attention_resolutions, groups)
            if index > 0:
                level.upsample = _Upsample(out, config.upsampling)
                side *= 2
            levels.insert(0, level)  # index 0 is the finest level, as in the released weights
            width = out
        self.up = nn.ModuleList(levels)
        self.noise = nn.ModuleList(noise)
        self.norm_out = _norm(width, groups)
        self.conv_out = nn.Conv2d(width, config.image_channels, 3, padding=1)

    def features(self, latents: Tensor) -> Tensor:
        """Everything but the last convolution: (B, base_channels, S, S)."""
        h = self.mid(self.conv_in(latents))
        for index in reversed(range(len(self.up))):
            if len(self.noise):
                h = self.noise[index](h)
            h = self.up[index](h)
        return F.silu(self.norm_out(h))

    def forward(self, latents: Tensor) -> Tensor:
        """Decode one batch."""
        out: Tensor = self.conv_out(self.features(latents))
        return out


class VqGan(nn.Module):
    """Encoder, vector quantiser and decoder."""

    def __init__(self, config: VqGanConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, config.latent_channels, 1)
        self.quantize = VectorQuantizer(config.codebook_size, config.codebook_dim)

    def encode(self, pixels: Tensor) -> Quantized:
        """Pixels (B, C, S, S) in [-1, 1] to codes (B, h, w) and their vectors."""
        quantized: Quantized = self.quantize(self.quant_conv(self.encoder(pixels)))
        return quantized

    def decode(self, latents: Tensor) -> Tensor:
        """Codebook vectors (B, codebook_dim, h, w) to pixels (B, C, S, S), about [-1, 1]."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) to pixels (B, C, S, S)."""
        return self.decode(self.quantize.embedding(codes).permute(0, 3, 1, 2))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruct a batch; also returns what the quantiser saw, for the losses."""
        quantized = self.encode(pixels)
        return self.decode(quantized.latents), quantized


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)
