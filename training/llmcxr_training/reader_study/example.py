"""Drawn phantoms and sentences, to try a reader study on without anybody's data."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from llmcxr_models.report import Report
from llmcxr_training.reader_study.prepare import Candidate, Grey

_SIDE = 256

_REPORTS = (
    (
        Report("The heart is normal in size. The lungs are clear.", "No acute abnormality."),
        Report("The heart size is within normal limits. No effusion.", "Normal chest."),
    ),
    (
        Report("The heart is enlarged. The lungs are clear.", "Cardiomegaly."),
        Report("The cardiac silhouette is normal. The lungs are clear.", "No acute disease."),
    ),
    (
        Report("There is a small left pleural effusion.", "Left pleural effusion."),
        Report("There is a large right pleural effusion.", "Right pleural effusion, increased."),
    ),
)
"""What stands for the reference, and what for a model's report: right, missed, and mistaken."""


def drawn_candidates(count: int, seed: int = 0) -> list[Candidate]:
    """Phantoms that stand for radiographs; the smoother ones stand for generated ones."""
    found = []
    for number in range(count):
        reference, written = _REPORTS[number % len(_REPORTS)]
        rng = np.random.default_rng([seed, number])
        smooth = functools.partial(draw_phantom, rng, number % len(_REPORTS), blur=2.5)
        image = draw_phantom(rng, number % len(_REPORTS), blur=0.7)
        name = f"phantom-{number:03}"
        found.append(Candidate(name, name, image, smooth, reference, written))
    return found


def draw_phantom(rng: np.random.Generator, kind: int, *, blur: float) -> Grey:
    """A drawn chest (256, 256): body, lungs, ribs, spine, heart; 1 is a wide heart, 2 fluid."""
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j]
    x = x + rng.normal(0, 0.015)
    y = y + rng.normal(0, 0.015)
    body = _inside(x, y, 0.5, 0.66, 0.47, 0.6)
    grey = 18.0 + 140.0 * body
    for centre in (0.29, 0.71):
        lung = _inside(x, y, centre, 0.47, 0.165, 0.34)
        grey -= 105.0 * lung
        # Ribs run down and outwards.
        across = np.abs(x - 0.5)
        ribs = np.sin((y - 0.9 * across**1.4) * 2 * np.pi * 8.5 + rng.normal(0, 0.3)) > 0.62
        grey += 22.0 * ribs * lung
    grey += 38.0 * _inside(x, y, 0.5, 0.5, 0.045, 0.9)
    heart = 0.19 if kind == 1 else 0.125
    grey += 60.0 * _inside(x, y, 0.55, 0.63, heart, 0.15)
    if kind == 2:
        grey += 75.0 * _inside(x, y, 0.71, 0.84, 0.17, 0.12)
    clavicles = np.exp(-(((y - 0.19 - 0.12 * np.abs(x - 0.5)) / 0.016) ** 2))
    grey += 28.0 * clavicles * body
    soft = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(blur)
    )
    noisy = np.asarray(soft, np.float64) + rng.normal(0, 5.0 if blur < 1 else 1.5, grey.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _inside(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    across: float,
    down: float,
    width: float,
    height: float,
) -> NDArray[np.float64]:
    """1 in an ellipse, 0 outside."""
    distance = ((x - across) / width) ** 2 + ((y - down) / height) ** 2
    return (distance < 1).astype(np.float64)
