"""Stored values -> display values in [0, 1], by the formulas of PS3.3 C.7.6.3, C.11.1, C.11.2.

All of it is done for each *possible* stored value, at most 65536, and looked up afterwards:
exact, and as fast for 25 megapixels as for one. The arithmetic is our own: pydicom 3.0
refuses modality LUTs of 10 to 15 bits and reads long VOI LUTs of 8 bits wrongly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.dicom_header import DicomHeader, Lut
from llmcxr_models.errors import InvalidRadiograph
from llmcxr_models.radiograph import equalise

Values = NDArray[np.float64]

BACKGROUND = 0.0
"""What padding is shown as: black, on either photometric interpretation."""


def show(stored: NDArray[np.int32], header: DicomHeader) -> tuple[NDArray[np.float32], list[str]]:
    """The `display` pipeline, PS3.4 N.2.

    Args:
        stored: (H, W) stored values.
        header: of the same image.

    Returns:
        Display values (H, W) in [0, 1], 0 black; and doubts, as sentences.

    Raises:
        InvalidRadiograph: the rescale or a lookup table cannot be applied.
    """
    possible = np.arange(header.lowest, header.highest + 1, dtype=np.float64)
    modality, lowest, highest = _modality_values(possible, header)
    table, notes = _voi_values(modality, lowest, highest, header)
    if is_inverted(header):
        table = 1.0 - table
    table[_padded(header)] = BACKGROUND
    return _look_up(table, stored, header), notes


def show_like_mimic(stored: NDArray[np.int32], header: DicomHeader) -> NDArray[np.float32]:
    """The `mimic` pipeline: min-max of the stored values, inversion, histogram equalisation.

    MIMIC-CXR-JPG (Johnson et al., arXiv 1901.07042, methods) made its pictures like this, and
    so a model trained on them has seen no window and no modality LUT.

    Args:
        stored: (H, W) stored values.
        header: of the same image.
    """
    index = np.clip(stored, header.lowest, header.highest) - header.lowest
    padded = _padded(header)
    occurring = np.flatnonzero(np.bincount(index.ravel(), minlength=padded.size))
    image = occurring[~padded[occurring]]
    lowest, highest = (int(image[0]), int(image[-1])) if image.size else (0, padded.size - 1)
    scaled = (np.arange(padded.size) - lowest) * (255.0 / max(highest - lowest, 1))
    table = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if header.photometric == "MONOCHROME1":
        table = np.uint8(255) - table
    table[padded] = 0
    return equalise(table[index]).astype(np.float32) / np.float32(255.0)


def is_inverted(header: DicomHeader) -> bool:
    """Whether low values are bright: Presentation LUT Shape where it is stated (C.11.6)."""
    if header.presentation_shape in {"INVERSE", "IDENTITY"}:
        return header.presentation_shape == "INVERSE"
    return header.photometric == "MONOCHROME1"


def linear(values: Values, centre: float, width: float) -> Values:
    """PS3.3 C.11.2.1.2.1, the default function; `width` is at least 1."""
    if width == 1:  # a step; the formula would divide by zero
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def linear_exact(values: Values, centre: float, width: float) -> Values:
    """PS3.3 C.11.2.1.3.2; `width` is greater than 0."""
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def sigmoid(values: Values, centre: float, width: float) -> Values:
    """PS3.3 C.11.2.1.3.1; `width` is greater than 0."""
    # Beyond 60 the result is 0 or 1 to all digits; exp would overflow.
    exponent = np.clip(-4.0 * (values - centre) / width, -60.0, 60.0)
    return 1.0 / (1.0 + np.exp(exponent))


_TINY = float(np.finfo(np.float64).tiny)
_FUNCTIONS: dict[str, tuple[Callable[[Values, float, float], Values], float]] = {
    "LINEAR": (linear, 1.0),
    "LINEAR_EXACT": (linear_exact, _TINY),
    "SIGMOID": (sigmoid, _TINY),
}
"""Each function, and the smallest width for which it is defined."""


def _modality_values(possible: Values, header: DicomHeader) -> tuple[Values, float, float]:
    """Modality LUT (C.11.1.1) or rescale (C.11.1.1.2), and the declared range of its output."""
    if header.modality_lut is not None:
        values = _apply(header.modality_lut, possible, signed_input=header.signed)
        return values, 0.0, float(header.modality_lut.highest)
    if header.slope == 0:
        raise InvalidRadiograph("The rescale slope is zero.", reason="rescale")
    values = possible * header.slope + header.intercept
    if not np.isfinite(values[[0, -1]]).all() or values[0] == values[-1]:
        raise InvalidRadiograph("The rescale cannot be applied.", reason="rescale")
    return values, float(values.min()), float(values.max())


def _voi_values(
    values: Values, lowest: float, highest: float, header: DicomHeader
) -> tuple[Values, list[str]]:
    """First VOI LUT, else first window, else the whole declared range."""
    if header.voi_luts:
        lut = header.voi_luts[0]
        return _apply(lut, values, signed_input=lowest < 0) / lut.highest, []
    if header.windows:
        centre, width = header.windows[0]
        known = header.window_function in _FUNCTIONS or not header.window_function
        function, narrowest = _FUNCTIONS.get(header.window_function, _FUNCTIONS["LINEAR"])
        if width >= narrowest:
            notes = [] if known else ["The window's function is not known; LINEAR is used."]
            return function(values, centre, width), notes
    notes = ["The window is not valid; the full range of values is shown."]
    return (values - lowest) / (highest - lowest), notes if header.windows else []


def _apply(lut: Lut, values: Values, *, signed_input: bool) -> Values:
    """Values below and above the table take its first and last entry."""
    index = np.rint(values) - lut.first_mapped(signed_input)
    inside = np.clip(index, 0, len(lut.entries) - 1).astype(np.int64)
    return lut.entries[inside].astype(np.float64)


def _padded(header: DicomHeader) -> NDArray[np.bool_]:
    """For each possible stored value, whether it is padding (C.7.5.1.1.2)."""
    possible = np.arange(header.lowest, header.highest + 1)
    if header.padding is None:
        return np.zeros(possible.shape, dtype=np.bool_)
    return (possible >= header.padding[0]) & (possible <= header.padding[1])


def _look_up(table: Values, stored: NDArray[np.int32], header: DicomHeader) -> NDArray[np.float32]:
    # Lossy codecs may overshoot the declared bits by a little.
    index = np.clip(stored, header.lowest, header.highest) - header.lowest
    return table.astype(np.float32)[index]
