"""The patch discriminator of the VQ-GAN (Isola et al., arXiv 1611.07004; taming-transformers)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Pixels (B, C, S, S) -> one logit for each overlapping patch, (B, 1, s, s).

    Group normalisation in place of batch normalisation: the batches here are small, and the
    statistics of real and reconstructed batches must not mix.
    """

    def __init__(self, image_channels: int, base_channels: int = 32, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            nn.Conv2d(image_channels, base_channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        width = base_channels
        for index in range(1, layers + 1):
            out = base_channels * min(2**index, 8)
            stride = 2 if index < layers else 1
            blocks += [
                nn.Conv2d(width, out, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, out),
                nn.LeakyReLU(0.2),
            ]
            width = out
        blocks.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """Positive logits say "real"."""
        logits: Tensor = self.layers(pixels)
        return logits
