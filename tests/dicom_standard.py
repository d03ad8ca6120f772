"""How PS3.3 says that a radiograph is shown: float64, written from the text of the standard.

Independent of the product on purpose: nothing of it is imported here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tests.dicom_variants import Table, Variant

Grey = NDArray[np.float64]


def show(variant: Variant, stored: NDArray[np.int64]) -> Grey:
    """P-values of stored values in [0, 1], 0 black; padding is black."""
    values, low, high = _modality(variant, stored.astype(np.float64))
    shown = _voi(variant, values, low, high)
    # C.11.6: INVERSE turns the scale; IDENTITY leaves it, whatever the photometric
    # interpretation; where the attribute is absent, C.7.6.3.1.2 decides.
    inverted = variant.shape == "INVERSE" or (
        not variant.shape and variant.photometric == "MONOCHROME1"
    )
    if inverted:
        shown = 1.0 - shown
    return np.where(is_padding(variant, stored), 0.0, shown)


def is_padding(variant: Variant, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
    """C.7.5.1.1.2: one value, or all from the value to the range limit, both included."""
    if not variant.padding:
        return np.zeros(stored.shape, dtype=np.bool_)
    first, last = min(variant.padding), max(variant.padding)
    return (stored >= first) & (stored <= last)


def enlarge(shown: Grey, variant: Variant) -> Grey:
    """Square pixels: the longer side grows, straight lines between pixel centres."""
    if variant.spacing is None:
        return shown
    vertical, horizontal = variant.spacing[1]
    rows, columns = shown.shape
    if vertical > horizontal:
        return _stretch(shown, round(rows * vertical / horizontal))
    return _stretch(shown.T, round(columns * horizontal / vertical)).T


def _stretch(picture: Grey, rows: int) -> Grey:
    centres = (np.arange(rows) + 0.5) * (len(picture) / rows) - 0.5
    below = np.clip(np.floor(centres).astype(int), 0, len(picture) - 1)
    above = np.clip(below + 1, 0, len(picture) - 1)
    share = np.clip(centres - below, 0.0, 1.0)[:, None]
    return np.asarray(picture[below] * (1 - share) + picture[above] * share)


def _modality(variant: Variant, stored: Grey) -> tuple[Grey, float, float]:
    if variant.modality_lut is not None:  # C.11.1.1
        table = variant.modality_lut
        return _table(table, stored), 0.0, 2.0**table.bits - 1.0
    slope, intercept = variant.rescale or (1.0, 0.0)  # C.11.1.1.2
    ends = sorted((variant.lowest * slope + intercept, variant.highest * slope + intercept))
    return stored * slope + intercept, ends[0], ends[1]


def _voi(variant: Variant, values: Grey, low: float, high: float) -> Grey:
    if variant.voi_luts:  # C.11.2.1.1; where a window is present too, either may be chosen
        table = variant.voi_luts[0]
        return _table(table, values) / (2.0**table.bits - 1.0)
    if not variant.windows:
        return (values - low) / (high - low)
    centre, width = variant.windows[0]
    if variant.function == "SIGMOID":  # C.11.2.1.3.1
        return np.asarray(
            1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
        )
    if variant.function == "LINEAR_EXACT":  # C.11.2.1.3.2
        inside = (values - centre) / width + 0.5
        return np.where(
            values <= centre - width / 2, 0.0, np.where(values > centre + width / 2, 1.0, inside)
        )
    # C.11.2.1.2.1
    below = values <= centre - 0.5 - (width - 1.0) / 2.0
    above = values > centre - 0.5 + (width - 1.0) / 2.0
    inside = (values - (centre - 0.5)) / (width - 1.0 if width > 1 else 1.0) + 0.5
    return np.where(below, 0.0, np.where(above, 1.0, inside))


def _table(table: Table, values: Grey) -> Grey:
    """C.11.1.1.1, C.11.2.1.1: inputs outside take the first and the last entry.

    The standard does not say which entry a fraction takes; the nearest, ties to even.
    """
    index = (np.rint(values) - table.first).astype(np.int64)
    return table.entries[np.clip(index, 0, len(table.entries) - 1)].astype(np.float64)
