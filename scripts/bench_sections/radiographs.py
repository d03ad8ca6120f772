"""Radiographs to ask about, no two alike: the shipped samples, each moved a little.

Were they alike, vLLM would find every prompt but the first in its prefix cache, and a report
would cost less than it does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageChops

from bench_sections.stage import ROOT

_LARGEST_SHIFT = 24


class Radiographs:
    """PNG files by number; those that are prepared cost no time later."""

    def __init__(self) -> None:
        folder = ROOT / "samples"
        files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
        self._samples = [Image.open(path).convert("L") for path in files]
        self._prepared: dict[int, bytes] = {}

    def prepare(self, numbers: Iterable[int]) -> None:
        """Make these, and forget all others."""
        self._prepared = {number: self._make(number) for number in numbers}

    def __call__(self, number: int) -> bytes:
        """The file of this number."""
        return self._prepared.get(number) or self._make(number)

    def _make(self, number: int) -> bytes:
        file = io.BytesIO()
        self.picture(number).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def picture(self, number: int) -> Image.Image:
        """The picture of this number, 8-bit grey."""
        dice = np.random.default_rng(number)
        right, down = dice.integers(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1, 2)
        moved = ImageChops.offset(self._samples[number % len(self._samples)], int(right), int(down))
        # So few shifts would come twice; one grey value more or less keeps them apart.
        return moved.point([min(255, value + int(dice.integers(0, 3))) for value in range(256)])
