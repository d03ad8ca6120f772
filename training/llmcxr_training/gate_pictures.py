"""Pictures that are no chest radiographs: drawn, cut out of others, or chests that were spoilt.

8-bit grey (N, S, S). Random by the generator that is passed in, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from llmcxr_training.data import DataError

Grey = NDArray[np.uint8]

_WORDS = ("patient", "report", "date", "findings", "history", "left", "normal", "of", "the", "with",
          "doctor", "hospital", "examination", "2019", "12", "7", "invoice", "street")  # fmt: skip
_SUFFIXES = {".png", ".jpg", ".jpeg"}


def noise(rng: np.random.Generator, size: int) -> Grey:
    """White, uniform, salt and pepper, or smooth at any scale."""
    kind = rng.integers(4)
    if kind == 0:
        values = rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.4), (size, size))
    elif kind == 1:
        values = rng.random((size, size))
    elif kind == 2:
        values = (rng.random((size, size)) < rng.uniform(0.02, 0.6)).astype(np.float64)
    else:
        side = int(2 ** rng.uniform(1.5, 7))
        coarse = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
        return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return _grey(values)


def gradient(rng: np.random.Generator, size: int) -> Grey:
    """A flat field, a ramp, a disc or stripes."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * x + np.sin(angle) * y + 1.4) / 2.8
    radius = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5))
    shapes = (
        np.full_like(x, rng.random()),
        ramp,
        np.clip(radius * rng.uniform(0.5, 2), 0, 1),
        (radius < rng.uniform(0.2, 1.0)).astype(np.float64),
        0.5 + 0.5 * np.sin(ramp * rng.uniform(5, 200)),
    )
    values = shapes[int(rng.integers(len(shapes)))]
    low, high = np.sort(rng.random(2))
    return _grey(low + (high - low) * (1 - values if rng.random() < 0.5 else values))


def document(rng: np.random.Generator, size: int) -> Grey:
    """A page of text, dark on light or the reverse, with lines and boxes."""
    paper, ink = (int(rng.integers(200, 256)), int(rng.integers(0, 90)))
    if rng.random() < 0.25:
        paper, ink = ink, paper
    page = Image.new("L", (2 * size, 2 * size), paper)
    draw = ImageDraw.Draw(page)
    points = int(rng.integers(10, 40))
    font = ImageFont.load_default(points)
    margin, y = int(rng.integers(5, 60)), int(rng.integers(5, 80))
    while y < 2 * size - points:
        words = rng.choice(_WORDS, int(rng.integers(1, 14)))
        if rng.random() < 0.85:
            draw.text((margin, y), " ".join(words), fill=ink, font=font)
        y += int(points * rng.uniform(1.1, 2.0))
    for _ in range(int(rng.integers(0, 5))):
        x0, x1 = np.sort(rng.integers(0, 2 * size, 2))
        y0, y1 = np.sort(rng.integers(0, 2 * size, 2))
        draw.rectangle((int(x0), int(y0), int(x1), int(y1)), outline=ink, width=2)
    return np.asarray(page.resize((size, size), Image.Resampling.BILINEAR))


DRAWN: dict[str, Callable[[np.random.Generator, int], Grey]] = {
    "noise": noise,
    "gradients": gradient,
    "documents": document,
}


def read_folder(folder: Path, size: int, crops_each: int, rng: np.random.Generator) -> list[Grey]:
    """Each picture of a folder whole, and `crops_each` pieces of it, squashed to (size, size).

    Raises:
        DataError: there is none, or one cannot be read.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise DataError(f"no pictures in {folder}")
    found: list[Grey] = []
    for file in files:
        try:
            picture = Image.open(file).convert("L")
        except OSError as error:
            raise DataError(f"{file} is no picture") from error
        found.append(np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)))
        found += [_crop(picture, size, rng) for _ in range(crops_each)]
    return found


def _crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Grey:
    width, height = picture.size
    across, down = (int(side * rng.uniform(0.35, 1.0)) for side in (width, height))
    left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
    box = (left, top, left + across, top + down)
    piece = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    grey = np.rot90(np.asarray(piece), int(rng.choice([0, 0, 1, 2, 3])))
    return np.ascontiguousarray(255 - grey if rng.random() < 0.15 else grey)


def invert(pixels: Tensor) -> Tensor:
    """The negative of (B, 1, S, S) in [-1, 1]."""
    return -pixels


def turn(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each of (B, 1, S, S) on its side or on its head."""
    quarters = torch.randint(1, 4, (len(pixels),), generator=generator).tolist()
    turned = [torch.rot90(p, k, (1, 2)) for p, k in zip(pixels, quarters, strict=True)]
    return torch.stack(turned)


def shuffle_tiles(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each cut into 4 x 4 tiles in a random order: a chest's texture without its anatomy."""
    side = pixels.shape[-1] // 4
    small = pixels[..., : 4 * side, : 4 * side]
    tiles = small.unfold(2, side, side).unfold(3, side, side).reshape(len(pixels), 16, side, side)
    order = torch.stack([torch.randperm(16, generator=generator) for _ in range(len(pixels))])
    mixed = torch.gather(tiles, 1, order[:, :, None, None].expand(-1, -1, side, side))
    rows = mixed.reshape(-1, 4, 4, side, side).permute(0, 1, 3, 2, 4)
    return rows.reshape(len(pixels), 1, 4 * side, 4 * side)


def shake(pixels: Tensor, generator: torch.Generator, *, strength: float = 1.0) -> Tensor:
    """Change (B, 1, S, S) as hospitals differ: placing, size, contrast, edges, sharpness, grain."""
    batch = len(pixels)

    def uniform(limit: float, *shape: int) -> Tensor:
        drawn = torch.rand((batch, *shape), generator=generator).mul(2).sub(1)
        return drawn * limit * strength

    angle, across, down = uniform(0.17), torch.exp(uniform(0.22)), torch.exp(uniform(0.22))
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack(
        [cos * across, -sin * across, uniform(0.16), sin * down, cos * down, uniform(0.16)], dim=1
    ).view(batch, 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    # Half of them end in black, as behind a collimator; the others go on.
    black = F.grid_sample(pixels + 1, grid, padding_mode="zeros", align_corners=False) - 1
    ongoing = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    dark = torch.rand((batch, 1, 1, 1), generator=generator) < 0.5
    grey = (torch.where(dark, black, ongoing).clamp(-1, 1) + 1) / 2
    # Some vendors flatten wide changes of brightness, and some blur.
    blurred = F.avg_pool2d(grey, 13, stride=1, padding=6, count_include_pad=False)
    grey = (grey + (grey - blurred) * (uniform(0.9, 1, 1, 1) + 0.4 * strength)).clamp(0, 1)
    grey = grey.pow(torch.exp(uniform(0.6, 1, 1, 1)))
    grey = (grey - 0.5) * torch.exp(uniform(0.6, 1, 1, 1)) + 0.5 + uniform(0.15, 1, 1, 1)
    grain = torch.randn(grey.shape, generator=generator) * uniform(0.03, 1, 1, 1).abs()
    return (grey + grain).clamp(0, 1) * 2 - 1


def _grey(values: NDArray[np.float64]) -> Grey:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
