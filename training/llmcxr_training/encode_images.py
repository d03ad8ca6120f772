"""`llmcxr-train encode`: every radiograph to codes once, in several augmented versions.

The VQ-GAN is paid for here and not again in each epoch of fine-tuning.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch.nn import functional as F
from tqdm import tqdm

from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_training.data import DataError
from llmcxr_training.pixel_cache import PixelCache

_log = logging.getLogger(__name__)


class Augmentation(BaseModel):
    """How versions after the first differ from the picture as it is.

    Attributes:
        versions: codes kept for each image; the first is never augmented.
        shift_pixels: largest translation.
        contrast: largest relative change of contrast, and absolute change of brightness.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: int = 3
    shift_pixels: int = 8
    contrast: float = 0.1


@dataclass(frozen=True)
class EncodedImages:
    """Codes of a data set.

    Attributes:
        ids: study ids, one a row.
        codes: (N, versions, image_length) uint16.
    """

    ids: tuple[str, ...]
    codes: NDArray[np.uint16]

    def save(self, path: Path) -> None:
        """Write an `.npz` file atomically."""
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, ids=np.array(json.dumps(self.ids)), codes=self.codes)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> EncodedImages:
        """Read an `.npz` file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with np.load(path) as archive:
                return cls(tuple(json.loads(str(archive["ids"]))), archive["codes"])
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} holds no encoded images") from error


def encode_images(
    cache: PixelCache,
    tokenizer: ImageTokenizer,
    augmentation: Augmentation,
    *,
    batch_size: int = 8,
    seed: int = 0,
) -> EncodedImages:
    """Encode every radiograph of `cache`."""
    channels = tokenizer.config.image_channels
    codes = np.zeros((len(cache), augmentation.versions, tokenizer.image_length), np.uint16)
    for start in tqdm(range(0, len(cache), batch_size), desc="encoding", unit="batch"):
        rows = range(start, min(start + batch_size, len(cache)))
        pixels = cache.batch(rows, channels)
        for version in range(augmentation.versions):
            generator = torch.Generator().manual_seed((seed * 65_537 + start) * 64 + version)
            changed = augment(pixels, augmentation, generator) if version else pixels
            codes[list(rows), version] = tokenizer.encode(changed).numpy().astype(np.uint16)
    return EncodedImages(tuple(study.id for study in cache.studies), codes)


def augment(
    pixels: torch.Tensor, augmentation: Augmentation, generator: torch.Generator
) -> torch.Tensor:
    """Shift by a few pixels and change the contrast of (B, C, S, S) in [-1, 1].

    Never mirrored: the heart has a side.
    """
    batch, _, size, _ = pixels.shape
    pad = augmentation.shift_pixels
    padded = F.pad(pixels, (pad, pad, pad, pad), mode="replicate")
    offsets = torch.randint(2 * pad + 1, (batch, 2), generator=generator).tolist()
    shifted = torch.stack(
        [p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, offsets, strict=True)]
    )
    jitter = torch.rand((2, batch, 1, 1, 1), generator=generator).mul(2).sub(1)
    jitter = jitter * augmentation.contrast
    return ((shifted + 1.0) * (1.0 + jitter[0]) - 1.0 + jitter[1]).clamp(-1.0, 1.0)
