"""Radiograph <-> model pixels: the only code that resizes, crops or scales.

Service and training both go through here, so the model is served what it was trained on.
The manifest names the geometry:

    squash        the whole picture, both sides scaled to the model's size; the aspect is lost,
                  nothing is cut off (the Indiana collection is distributed like this)
    centre-crop   short side to the model's size, centre cropped (LLM-CXR, MIMIC-CXR-JPG)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from llmcxr_models.radiograph import Pipeline, Radiograph


class Geometry(StrEnum):
    """How a rectangle becomes the model's square."""

    SQUASH = "squash"
    CENTRE_CROP = "centre-crop"


@dataclass(frozen=True)
class Preprocessing:
    """What turns a file into model pixels; part of the checkpoint's manifest.

    Attributes:
        pipeline: how stored values became display values (see `radiograph`).
        geometry: how the rectangle became a square.
        image_size: side of that square, pixels.
        channels: 1, or 3 where the grey value is repeated.
    """

    pipeline: Pipeline = Pipeline.DISPLAY
    geometry: Geometry = Geometry.SQUASH
    image_size: int = 256
    channels: int = 1

    @property
    def name(self) -> str:
        """One word for answers and logs, for example `display/squash/256`."""
        return f"{self.pipeline}/{self.geometry}/{self.image_size}"


def to_pixels(radiograph: Radiograph, preprocessing: Preprocessing) -> Tensor:
    """Model pixels (C, S, S), float32 in [-1, 1]."""
    grey = resize(radiograph.pixels, preprocessing.geometry, preprocessing.image_size)
    pixels = torch.from_numpy(grey).mul(2.0).sub(1.0).clamp(-1.0, 1.0)
    return pixels.unsqueeze(0).repeat(preprocessing.channels, 1, 1)


def to_batch(radiographs: Iterable[Radiograph], preprocessing: Preprocessing) -> Tensor:
    """Model pixels (B, C, S, S) of several radiographs."""
    return torch.stack([to_pixels(radiograph, preprocessing) for radiograph in radiographs])


def to_grey8(pixels: Tensor) -> NDArray[np.uint8]:
    """Model pixels (C, S, S), about [-1, 1], as 8-bit grey (S, S) for a PNG."""
    grey = pixels.detach().float().mean(0).clamp(-1.0, 1.0).add(1.0).mul(127.5)
    return grey.round().to(torch.uint8).cpu().numpy()


def resize(pixels: NDArray[np.float32], geometry: Geometry, image_size: int) -> NDArray[np.float32]:
    """Scale (H, W) in [0, 1] to (image_size, image_size), Lanczos, clipped to [0, 1]."""
    height, width = pixels.shape
    if (height, width) == (image_size, image_size):
        return np.ascontiguousarray(pixels, dtype=np.float32)
    # Pillow's resampling widens its kernel with the reduction, so shrinking does not alias.
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    if geometry is Geometry.SQUASH:
        scaled = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
    else:
        factor = image_size / min(height, width)
        size = (max(image_size, round(width * factor)), max(image_size, round(height * factor)))
        scaled = image.resize(size, Image.Resampling.LANCZOS)
        # Half pixels to even, as torchvision's centre crop, with which LLM-CXR was trained.
        left, top = (round((side - image_size) / 2) for side in size)
        scaled = scaled.crop((left, top, left + image_size, top + image_size))
    return np.clip(np.asarray(scaled, dtype=np.float32), 0.0, 1.0)
