"""Radiographs as another hospital might send them: model pixels, changed in one way at a time.

8-bit grey (S, S) -> the same. Random by the generator that is passed in, and by nothing else.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from llmcxr_models.radiograph import equalise
from llmcxr_training.data import DataError
from llmcxr_training.pixel_cache import PixelCache

Grey = NDArray[np.uint8]
Change = Callable[[Grey, np.random.Generator], Grey]

VERSION = 1
"""Part of what results are kept under: raise it with any change of what is drawn here."""

_LOG_RANGE = float(np.log(30.0))
"""Of the exposure behind a chest, between the lungs' air and the spine: about thirtyfold."""
_FULL_DOSE_SPREAD = 0.01
"""Quantum noise of a usual exposure at middle grey, as a share of the range of grey values."""


@dataclass(frozen=True)
class Shift:
    """One way in which pictures differ.

    Attributes:
        name: in keys and tables.
        text: what it is.
        change: of one picture.
    """

    name: str
    text: str
    change: Change


def gamma(grey: Grey, _: np.random.Generator, *, exponent: float) -> Grey:
    """Darker (above 1) or brighter: another exposure, or another curve behind it."""
    return _grey((grey / 255.0) ** exponent)


def flatten(grey: Grey, _: np.random.Generator, *, factor: float) -> Grey:
    """Less contrast around middle grey."""
    return _grey(0.5 + (grey / 255.0 - 0.5) * factor)


def quantum_noise(grey: Grey, rng: np.random.Generator, *, dose: float) -> Grey:
    """Noise of `dose` times the usual exposure.

    Grey values of a displayed radiograph are about the negative logarithm of the exposure, and
    photons are Poisson: the spread grows with the root of what is absorbed, most behind the
    mediastinum. Noise of neighbouring pixels is independent: no detector's blur is simulated.
    """
    shown = grey / 255.0
    spread = _FULL_DOSE_SPREAD * np.sqrt(np.exp(_LOG_RANGE * (shown - 0.5)) / dose)
    return _grey(shown + spread * rng.standard_normal(grey.shape))


def blur(grey: Grey, _: np.random.Generator, *, sigma: float) -> Grey:
    """A coarser detector, or movement; `sigma` in pixels."""
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(sigma)))


def rotate(grey: Grey, rng: np.random.Generator, *, degrees: float) -> Grey:
    """A patient who leans to either side; what comes into view is black."""
    angle = degrees if rng.random() < 0.5 else -degrees
    return np.asarray(Image.fromarray(grey).rotate(angle, Image.Resampling.BICUBIC, fillcolor=0))


def zoom(grey: Grey, _: np.random.Generator, *, share: float) -> Grey:
    """The middle `share` of each side: another collimation, or a crop."""
    side = grey.shape[0]
    margin = side * (1.0 - share) / 2.0
    box = (margin, margin, side - margin, side - margin)
    picture = Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture)


def burn_in(grey: Grey, rng: np.random.Generator) -> Grey:
    """A side marker and a line of text in white, as some systems burn them in."""
    side = grey.shape[0]
    picture = Image.fromarray(grey)
    draw = ImageDraw.Draw(picture)
    large, small = (ImageFont.load_default(max(6, side // part)) for part in (12, 22))
    left = rng.random() < 0.5
    at = (0.04 * side if left else 0.88 * side, 0.05 * side)
    draw.text(at, str(rng.choice(["L", "R"])), fill=255, font=large)
    line = f"PORTABLE AP ERECT  {rng.integers(24):02}:{rng.integers(60):02}"
    draw.text((0.05 * side, 0.93 * side), line, fill=255, font=small)
    return np.asarray(picture)


def equalised(grey: Grey, _: np.random.Generator) -> Grey:
    """Histogram equalisation: the `mimic` pipeline where the checkpoint expects `display`."""
    return equalise(grey)


def mirrored(grey: Grey, _: np.random.Generator) -> Grey:
    """Left and right exchanged."""
    return np.ascontiguousarray(grey[:, ::-1])


def inverted(grey: Grey, _: np.random.Generator) -> Grey:
    """The negative: a photometric interpretation that was ignored."""
    return np.asarray(255 - grey, np.uint8)


def upside_down(grey: Grey, _: np.random.Generator) -> Grey:
    """Turned by half."""
    return np.ascontiguousarray(np.rot90(grey, 2))


SHIFTS: tuple[Shift, ...] = (
    Shift("darker", "gamma 1.8", functools.partial(gamma, exponent=1.8)),
    Shift("brighter", "gamma 0.55", functools.partial(gamma, exponent=0.55)),
    Shift("flat", "half the contrast", functools.partial(flatten, factor=0.5)),
    Shift("dose-1-4", "noise of 1/4 of the dose", functools.partial(quantum_noise, dose=0.25)),
    Shift("dose-1-16", "noise of 1/16 of the dose", functools.partial(quantum_noise, dose=0.0625)),
    Shift("blur", "blurred, sigma 1.5 pixels", functools.partial(blur, sigma=1.5)),
    Shift("rotated-5", "leaning by 5 degrees", functools.partial(rotate, degrees=5.0)),
    Shift("rotated-10", "leaning by 10 degrees", functools.partial(rotate, degrees=10.0)),
    Shift("rotated-20", "leaning by 20 degrees", functools.partial(rotate, degrees=20.0)),
    Shift("zoomed", "the middle 80 % of each side", functools.partial(zoom, share=0.8)),
    Shift("markers", "a side marker and a line of text burned in", burn_in),
    Shift("mimic", "histogram equalisation (the `mimic` pipeline)", equalised),
    Shift("mirrored", "left and right exchanged", mirrored),
    Shift("inverted", "the negative", inverted),
    Shift("upside-down", "turned by 180 degrees", upside_down),
)


def chosen_shifts(names: tuple[str, ...] | None) -> list[Shift]:
    """The shifts of these names, in the order of `SHIFTS`; all by default.

    Raises:
        DataError: no such shift.
    """
    known = {shift.name: shift for shift in SHIFTS}
    if unknown := set(names or ()) - known.keys():
        raise DataError(
            f"no such shift: {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    return [shift for shift in SHIFTS if names is None or shift.name in names]


def shifted(cache: PixelCache, shift: Shift, seed: int) -> PixelCache:
    """Every picture changed; their studies get names of their own, for what is kept of them."""
    grey = np.stack(
        [
            shift.change(np.asarray(picture), _generator(study.id, shift.name, seed))
            for study, picture in zip(cache.studies, cache.grey, strict=True)
        ]
    )
    name = f"{shift.name}.{VERSION}.{seed}"
    return PixelCache([replace(s, id=f"{s.id}@{name}") for s in cache.studies], grey)


def _generator(study_id: str, name: str, seed: int) -> np.random.Generator:
    """A picture's own: the same whatever else is measured."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{study_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _grey(values: NDArray[np.float64]) -> Grey:
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
