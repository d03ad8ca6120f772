"""Ours, dcmtk's and PS3.3's rendering of the same file, and how far apart they are."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests import dicom_standard as standard
from tests.dcmtk import Dcmtk
from tests.dicom_variants import LOSSY, Variant, variants, write

from llmcxr_models.radiograph_file import read_radiograph


@dataclass(frozen=True)
class Outcome:
    """Largest differences of one variant, in steps of 1/255.

    Attributes:
        name: which file.
        classes: what it is an example of.
        to_standard: ours to PS3.3.
        to_dcmtk: ours to dcmtk; padding, which dcmtk draws and we do not, left out.
        dcmtk_is_wrong: why only PS3.3 counts; empty where dcmtk follows it.
    """

    name: str
    classes: Sequence[str]
    to_standard: float
    to_dcmtk: float
    dcmtk_is_wrong: str

    @property
    def judged(self) -> float:
        """The difference that must not exceed one step."""
        return self.to_standard if self.dcmtk_is_wrong else max(self.to_standard, self.to_dcmtk)


def known_deviation(variant: Variant) -> str:
    """Where dcmtk 3.6 leaves the standard."""
    if variant.windows and variant.function == "LINEAR_EXACT":
        return "LINEAR_EXACT is computed as LINEAR"
    if variant.rescale and any(number % 1 for number in variant.rescale):
        return "rescaled values are rounded to integers"
    return ""


def compare(variant: Variant, dcmtk: Dcmtk) -> Outcome:
    """Write, read three times, measure."""
    data = write(variant, dcmtk.compress)
    stored = dcmtk.stored(variant, data) if variant.syntax in LOSSY else variant.stored
    expected = standard.show(variant, stored)
    ours = read_radiograph(data).pixels
    square = standard.enlarge(expected, variant)
    assert ours.shape == square.shape, variant.name
    theirs = dcmtk.show(variant, data)
    theirs = np.where(standard.is_padding(variant, stored), 0.0, theirs)
    return Outcome(
        variant.name,
        variant.classes(),
        to_standard=_steps(ours, square),
        to_dcmtk=_steps(ours, standard.enlarge(theirs, variant)),
        dcmtk_is_wrong=known_deviation(variant),
    )


def compare_all(folder: Path) -> list[Outcome]:
    """Every generated variant; mostly waits for programs, so with a thread a processor."""
    own = threading.local()

    def work(variant: Variant) -> Outcome:
        if not hasattr(own, "dcmtk"):
            place = folder / str(threading.get_ident())
            place.mkdir()
            own.dcmtk = Dcmtk(place)
        return compare(variant, own.dcmtk)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(work, variants()))


def table(outcomes: Sequence[Outcome]) -> str:
    """Number and largest difference of each class, for people."""
    classes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        for name in ("all", *outcome.classes):
            classes[name].append(outcome)
        if outcome.dcmtk_is_wrong:
            classes[f"(dcmtk) {outcome.dcmtk_is_wrong}"].append(outcome)
    head = f"\n{'largest difference / (1/255)':44} files  to PS3.3   files  to dcmtk\n"
    return head + "".join(_row(name, found) for name, found in classes.items())


def _row(name: str, found: Sequence[Outcome]) -> str:
    fair = [o for o in found if not o.dcmtk_is_wrong] or found
    to_standard = max(o.to_standard for o in found)
    to_dcmtk = max(o.to_dcmtk for o in fair)
    return f"{name:44} {len(found):5} {to_standard:9.3f} {len(fair):7} {to_dcmtk:9.3f}\n"


def _steps(ours: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(ours - other).max() * 255)
