"""ImageTokenizer: model pixels (B, C, S, S) <-> codes (B, N), on a CPU or a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.vqgan import VqGan


class ImageTokenizer:
    """A VQ-GAN for inference: evaluation mode, no gradients, inputs checked.

    Args:
        vqgan: with its trained weights.
        device: where to compute; results come back on the CPU.
    """

    def __init__(self, vqgan: VqGan, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.config = vqgan.config
        self._vqgan = vqgan.to(self.device).eval().requires_grad_(False)

    @property
    def image_length(self) -> int:
        """Codes in one image."""
        return self.config.grid_size**2

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Codes (B, N), int64, row by row, of pixels (B, C, S, S) in [-1, 1]."""
        codes = self._vqgan.encode(pixels.to(self.device, torch.float32)).codes
        return codes.flatten(1).cpu()

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Pixels (B, C, S, S) in [-1, 1] of codes (B, N).

        Raises:
            InvalidImageTokens: not N codes an image, or a code outside the codebook.
        """
        if codes.ndim != 2 or codes.shape[1] != self.image_length:
            raise InvalidImageTokens(f"An image is {self.image_length} codes.")
        if (
            codes.numel()
            and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size
        ):
            raise InvalidImageTokens("A code is outside the codebook.")
        side = self.config.grid_size
        pixels = self._vqgan.decode_codes(codes.to(self.device).view(-1, side, side))
        return pixels.float().clamp(-1.0, 1.0).cpu()
