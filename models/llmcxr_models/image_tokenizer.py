"""ImageTokenizer: model pixels (B, C, S, S) <-> codes (B, N), on a CPU or a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmcxr_models.errors import InvalidImageTokens
from llmcxr_models.vqgan import VqGan


class ImageTokenizer:
    """A VQ-GAN for inference: evaluation mode, no gradients, inputs checked.

    Args:
        vqgan: with its trained weights; it is moved and turned in place.
        device: where to compute; results come back on the CPU.
        decode_dtype: of the decoder's products; pixels of bfloat16 differ from those of float32
            by 57 dB. Codes are always found in float32: a tie that rounding decides would make
            one radiograph two sequences of tokens.
    """

    def __init__(
        self,
        vqgan: VqGan,
        device: torch.device | str = "cpu",
        decode_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        self.config = vqgan.config
        self.decode_dtype = decode_dtype
        self._vqgan = vqgan.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu":
            # Channels last saves a CPU the reordering at each convolution; the codes are the same.
            # The decoder's wide maps gain by it in bfloat16 only.
            _channels_last(self._vqgan.encoder)
        if decode_dtype is not torch.float32:
            # Autocast would turn the weights at each call. Norms stay in float32.
            _convolutions_to(decode_dtype, self._vqgan.decoder, self._vqgan.post_quant_conv)
            _channels_last(self._vqgan.decoder)

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
        with torch.autocast(
            self.device.type, self.decode_dtype, enabled=self.decode_dtype is not torch.float32
        ):
            pixels = self._vqgan.decode_codes(codes.to(self.device).view(-1, side, side))
        return pixels.float().clamp(-1.0, 1.0).cpu()


def _convolutions_to(dtype: torch.dtype, *modules: nn.Module) -> None:
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                part.to(dtype)


def _channels_last(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim == 4:  # a convolution's weights, whose order its output takes
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
