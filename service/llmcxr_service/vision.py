"""Radiograph -> codes, and codes -> pixels: all blocking work, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.hardware import cpu_has_bf16
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import Preprocessing, to_pixels
from llmcxr_models.radiograph import Radiograph
from llmcxr_service.micro_batch import MicroBatcher
from llmcxr_service.settings import Settings

DecodeRadiograph = Callable[[bytes], Awaitable[Radiograph]]
"""Bytes -> Radiograph, not on the event loop; `DecodePool.radiograph` is one."""


class Vision:
    """The VQ-GAN behind two micro-batchers that share one worker thread.

    Args:
        tokenizer: the VQ-GAN.
        preprocessing: how a radiograph becomes its pixels.
        max_encode: most images encoded at once.
        max_decode: most images drawn at once.
        wait_seconds: how long an image waits for company.
        on_batch: told kind and size of every batch.
        on_wait: told stage and seconds, of every image whose batch begins.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        preprocessing: Preprocessing,
        *,
        max_encode: int,
        max_decode: int,
        wait_seconds: float,
        on_batch: Callable[[str, int], None],
        on_wait: Callable[[str, float], None],
    ) -> None:
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing
        # One thread: two batches at once would only share the same cores or the same GPU.
        self._executor = ThreadPoolExecutor(1, "vqgan")
        self._encode = MicroBatcher(
            self._encode_batch,
            self._executor,
            max_size=max_encode,
            wait_seconds=wait_seconds,
            on_batch=partial(on_batch, "encode"),
            on_wait=partial(on_wait, "encode"),
        )
        self._decode = MicroBatcher(
            self._decode_batch,
            self._executor,
            max_size=max_decode,
            wait_seconds=wait_seconds,
            on_batch=partial(on_batch, "decode"),
            on_wait=partial(on_wait, "draw"),
        )

    def start(self) -> None:
        """Begin to work."""
        self._encode.start()
        self._decode.start()

    async def stop(self) -> None:
        """Stop, and wait for the batch in work."""
        await self._encode.stop()
        await self._decode.stop()
        await asyncio.to_thread(self._executor.shutdown)

    async def pixels(self, radiograph: Radiograph) -> Tensor:
        """Model pixels (C, S, S) of a radiograph."""
        return await asyncio.to_thread(to_pixels, radiograph, self._preprocessing)

    async def encode(self, pixels: Tensor) -> list[int]:
        """Codes (N) of model pixels (C, S, S)."""
        return await self._encode.submit(pixels)

    async def decode(self, codes: Sequence[int]) -> Tensor:
        """Model pixels (C, S, S) of codes (N).

        Raises:
            InvalidImageTokens: these codes are not one image.
        """
        return await self._decode.submit(torch.tensor(list(codes)))

    def _encode_batch(self, pixels: Sequence[Tensor]) -> list[list[int]]:
        codes: list[list[int]] = self._tokenizer.encode(torch.stack(list(pixels))).tolist()
        return codes

    def _decode_batch(self, codes: Sequence[Tensor]) -> list[Tensor]:
        return list(self._tokenizer.decode(torch.stack(list(codes))))


def load_image_tokenizer(checkpoint: Checkpoint, settings: Settings) -> ImageTokenizer:
    """The checkpoint's VQ-GAN where, and in the type in which, the settings want it."""
    device = choose_device(settings.device)
    decode_dtype = choose_decode_dtype(settings.vqgan_decode_dtype, device)
    return ImageTokenizer(checkpoint.load_vqgan(), device, decode_dtype)


def micro_batch_sizes(tokenizer: ImageTokenizer, settings: Settings) -> tuple[int, int]:
    """Most images encoded, and most drawn, at once."""
    if settings.micro_batch_size:
        return settings.micro_batch_size, settings.micro_batch_size
    device = tokenizer.device
    return (
        choose_micro_batch(device, torch.float32),
        choose_micro_batch(device, tokenizer.decode_dtype),
    )


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_decode_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a CPU with bfloat16 products, else float32."""
    if name == "auto":
        name = "bfloat16" if device.type == "cpu" and cpu_has_bf16() else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def choose_micro_batch(device: torch.device, dtype: torch.dtype) -> int:
    """Most images at once: a GPU has idle units to fill, a CPU soon only caches to outgrow.

    docs/benchmarks/README.md has the rates by size. In bfloat16 maps are half as large, and each
    product is over so soon that handing it to the threads counts: there a few gain.
    """
    if device.type == "cpu":
        return 4 if dtype is torch.bfloat16 else 1
    return 8
