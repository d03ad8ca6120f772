"""The patch discriminator of the VQ-GAN (Isola et al., arXiv 1611.07004).

It sees the picture and, as a second channel, the picture's fine detail (what a small blur takes
away). What a VQ-GAN loses first is detail; without that channel a discriminator of this size
needs hundreds of steps to find it, and is fooled before it has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

DETAIL_WINDOW = 5
DETAIL_GAIN = 8.0


class PatchDiscriminator(nn.Module):
    """Pixels (B, C, S, S) -> one logit for each overlapping patch, (B, 1, s, s).

    Spectral normalisation (Miyato et al., arXiv 1802.05957) in place of batch normalisation: the
    batches are small, and statistics of real and reconstructed pictures must not mix.
    """

    def __init__(self, image_channels: int, base_channels: int = 32, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = 2 * image_channels
        for index in range(layers + 1):
            out = base_channels * min(2**index, 8)
            stride = 2 if index < layers else 1
            blocks += [_convolution(width, out, stride), nn.LeakyReLU(0.2)]
            width = out
        blocks.append(_convolution(width, 1, 1))
        self.layers = nn.Sequential(*blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """Positive logits say "real"."""
        return self.maps(pixels)[-1]

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """What each convolution made of the pixels; the last are the logits."""
        x = torch.cat([pixels, detail(pixels)], dim=1)
        maps = []
        for layer in self.layers:
            x = layer(x)
            if not isinstance(layer, nn.Conv2d):
                maps.append(x)
        return [*maps, x]


def detail(pixels: Tensor) -> Tensor:
    """What a small box blur takes away, amplified; the shape of `pixels`."""
    padding = DETAIL_WINDOW // 2
    blurred = F.avg_pool2d(pixels, DETAIL_WINDOW, 1, padding, count_include_pad=False)
    return DETAIL_GAIN * (pixels - blurred)


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    convolution: nn.Module = spectral_norm(
        nn.Conv2d(in_channels, out_channels, 4, stride=stride, padding=1)
    )
    return convolution
