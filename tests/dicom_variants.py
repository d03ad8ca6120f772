"""Radiographs as DICOM in several hundred variants, from one seed: what a vendor may write.

Each variant knows the stored values and attributes that it was made of, so that a reference can
be computed without reading the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED, JPEG_14, JPEG_SV1 = (
    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)
)
JPEG_LS, JPEG_LS_NEAR = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000, JPEG_2000_LOSSY = (f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))

SYNTAXES: dict[str, tuple[str, int]] = {
    "implicit": (IMPLICIT, 72),
    "explicit": (EXPLICIT, 100),
    "big endian": (BIG, 72),
    "RLE": (RLE, 60),
    "JPEG baseline": (JPEG_BASELINE, 40),
    "JPEG extended": (JPEG_EXTENDED, 16),
    "JPEG lossless 14": (JPEG_14, 18),
    "JPEG lossless SV1": (JPEG_SV1, 18),
    "JPEG-LS": (JPEG_LS, 40),
    "JPEG-LS near": (JPEG_LS_NEAR, 24),
    "JPEG 2000": (JPEG_2000, 32),
    "JPEG 2000 lossy": (JPEG_2000_LOSSY, 24),
}
"""Transfer syntax and number of variants; 12-bit and lossless JPEG cost a process each."""

LOSSY = {JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS_NEAR, JPEG_2000_LOSSY}
_UNSIGNED_ONLY = {JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS_NEAR}

Values = NDArray[np.int64]
Compress = Callable[[bytes, str], bytes]
"""A native file and a transfer syntax -> the codestream of its one frame."""


@dataclass(frozen=True)
class Table:
    """A lookup table: input value of its first entry, bits of an entry, entries, how written."""

    first: int
    bits: int
    entries: Values
    packed: bool = False


@dataclass(frozen=True)
class Variant:
    """One radiograph, described.

    Attributes:
        padding: Pixel Padding Value and, where there is one, its Range Limit.
        spacing: which attribute says that pixels are not square, and its two values.
    """

    number: int
    syntax_name: str
    bits: int
    allocated: int
    shift: int
    signed: bool
    stored: Values
    photometric: str = "MONOCHROME2"
    shape: str = ""
    rescale: tuple[float, float] | None = None
    modality_lut: Table | None = None
    voi_luts: tuple[Table, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()
    function: str = ""
    padding: tuple[int, ...] = ()
    spacing: tuple[str, tuple[float, float]] | None = None
    pixel_vr: str = ""
    dirty: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def syntax(self) -> str:
        return SYNTAXES[self.syntax_name][0]

    @property
    def name(self) -> str:
        return f"{self.number:03d} {self.syntax_name}"

    @property
    def lowest(self) -> int:
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        return self.lowest + 2**self.bits - 1

    def classes(self) -> list[str]:
        """Everything that this variant is an example of."""
        voi = "VOI LUT" if self.voi_luts else f"window {self.function or 'LINEAR'}"
        words = [
            self.syntax_name,
            f"{self.bits} bits",
            "signed" if self.signed else "unsigned",
            self.photometric,
            f"shape {self.shape or 'absent'}",
            voi if self.voi_luts or self.windows else "no window",
        ]
        modality = "modality LUT" if self.modality_lut else "rescale" if self.rescale else ""
        optional = {
            modality: bool(modality),
            "several windows": len(self.windows) > 1,
            "several VOI LUTs": len(self.voi_luts) > 1,
            "8-bit LUT of over 256": any(
                t.bits == 8 and len(t.entries) > 256 for t in (*self.voi_luts, self.modality_lut)
                if t is not None
            ),
            "LUT of 10 to 15 bits": any(
                10 <= t.bits <= 15 for t in (*self.voi_luts, self.modality_lut) if t is not None
            ),
            "padding value": len(self.padding) == 1,
            "padding range": len(self.padding) == 2,
            "high bit shifted": self.shift > 0,
            "overlay in unused bits": self.dirty,
            "pixels not square": self.spacing is not None,
        }  # fmt: skip
        return words + [name for name, here in optional.items() if here]


def variants(seed: int = 20) -> Iterator[Variant]:
    """All of them, always the same for one seed."""
    number = 0
    for name, (_, count) in SYNTAXES.items():
        for i in range(count):
            yield _variant(np.random.default_rng((seed, number)), number, name, i)
            number += 1


def _variant(rng: np.random.Generator, number: int, syntax_name: str, i: int) -> Variant:
    syntax = SYNTAXES[syntax_name][0]
    bits = {JPEG_BASELINE: 8, JPEG_EXTENDED: 12}.get(syntax) or 8 + i % 9
    signed = syntax not in _UNSIGNED_ONLY and rng.random() < 0.3
    native = syntax in {IMPLICIT, EXPLICIT, BIG, RLE}
    whole_words = native or syntax in {JPEG_14, JPEG_SV1, JPEG_LS}
    allocated = 16 if bits > 8 or (native and rng.random() < 0.3) else 8
    shift = int(rng.integers(0, allocated - bits + 1)) if whole_words and rng.random() < 0.3 else 0
    lowest = -(2 ** (bits - 1)) if signed else 0
    described: dict[str, Any] = {
        "photometric": str(rng.choice(["MONOCHROME1", "MONOCHROME2"])),
        "shape": str(rng.choice(["", "", "INVERSE", "IDENTITY"])),
        **_modality(rng, lowest, bits),
    }
    low, high = _modality_range(described, lowest, bits)
    described |= _voi(rng, low, high)
    if rng.random() < 0.25:
        described["padding"] = _padding(rng, lowest, bits)
    if rng.random() < 0.08:
        described["spacing"] = _spacing(rng)
    if bits == 8 and allocated == 8 and native and syntax != RLE:
        described["pixel_vr"] = "OB" if syntax == IMPLICIT else str(rng.choice(["OB", "OW"]))
        described["pixel_vr"] = "OW" if syntax == IMPLICIT else described["pixel_vr"]
    return Variant(
        number=number,
        syntax_name=syntax_name,
        bits=bits,
        allocated=allocated,
        shift=shift,
        signed=signed,
        stored=_stored(rng, lowest, bits, described),
        dirty=native and syntax != RLE and allocated > bits and rng.random() < 0.3,
        **described,
    )


def _modality(rng: np.random.Generator, lowest: int, bits: int) -> dict[str, Any]:
    kind = rng.choice(["none", "rescale", "lut"], p=[0.5, 0.25, 0.25])
    if kind == "none":
        return {}
    if kind == "rescale":
        slope = float(rng.choice([1, -1, 2, 0.5, 0.37, -0.25, 1.0625]))
        return {"rescale": (slope, float(rng.choice([0, -1024, 4095, 0.5, 100])))}
    return {"modality_lut": _table(rng, lowest, 2**bits, allow_packed=False)}


def _table(rng: np.random.Generator, low: float, inputs: int, *, allow_packed: bool) -> Table:
    """A monotone table over most of the inputs, rising or falling, of 8 to 16 bits."""
    out_bits = int(rng.integers(8, 17))
    count = int(min(max(inputs * rng.uniform(0.5, 1.0), 2), 65536))
    first = int(low + rng.uniform(0, 0.4) * (inputs - count))
    curve = np.linspace(0, 1, count) ** rng.uniform(0.5, 2.0)
    entries = np.rint(curve * (2**out_bits - 1)).astype(np.int64)
    if rng.random() < 0.3:
        entries = entries[::-1].copy()
    packed = allow_packed and out_bits == 8 and rng.random() < 0.5
    return Table(max(first, -32768), out_bits, entries, packed)


def _modality_range(described: dict[str, Any], lowest: int, bits: int) -> tuple[float, float]:
    if "modality_lut" in described:
        return 0.0, 2.0 ** described["modality_lut"].bits - 1
    slope, intercept = described.get("rescale", (1.0, 0.0))
    ends = sorted((lowest * slope + intercept, (lowest + 2**bits - 1) * slope + intercept))
    return ends[0], ends[1]


def _voi(rng: np.random.Generator, low: float, high: float) -> dict[str, Any]:
    kind = rng.choice(
        ["none", "LINEAR", "", "LINEAR_EXACT", "SIGMOID", "lut"],
        p=[0.12, 0.1, 0.28, 0.12, 0.12, 0.26],
    )
    span = high - low
    if kind == "none":
        return {}
    if kind == "lut":
        # Input values outside of 16 bits cannot be written into a descriptor.
        start, inputs = max(round(low), -32768), min(round(span) + 1, 65536)
        start = min(start, 65535)
        count = 1 if rng.random() < 0.85 else 2
        tables = [_table(rng, start, max(inputs, 2), allow_packed=True) for _ in range(count)]
        return {"voi_luts": tuple(tables)}
    windows = []
    for _ in range(1 if rng.random() < 0.75 else int(rng.integers(2, 4))):
        centre = round(float(low + span * rng.uniform(0.2, 0.8)), 2)
        width = round(float(max(1.0, span * rng.choice([0.02, 0.2, 0.6, 1.0, 1.5]))), 2)
        windows.append((centre, width))
    return {"windows": tuple(windows), "function": str(kind)}


def _padding(rng: np.random.Generator, lowest: int, bits: int) -> tuple[int, ...]:
    highest = lowest + 2**bits - 1
    value = int(rng.choice([lowest, highest, (lowest + highest) // 2]))
    if rng.random() < 0.5:
        return (value,)
    reach = 2**bits // 10
    return (value, min(value + reach, highest) if value < highest else highest - reach)


def _spacing(rng: np.random.Generator) -> tuple[str, tuple[float, float]]:
    keyword = str(rng.choice(["PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"]))
    pairs = [(2, 1), (1, 2), (3, 1)] if keyword == "PixelAspectRatio" else [(0.2, 0.1), (0.1, 0.2)]
    return keyword, pairs[int(rng.integers(len(pairs)))]


def _stored(rng: np.random.Generator, lowest: int, bits: int, described: dict[str, Any]) -> Values:
    """A ramp over all values, a smooth noise, padding, and an odd width."""
    rows, columns = int(rng.integers(34, 49)), int(rng.integers(33, 52))
    highest = lowest + 2**bits - 1
    ramp = np.linspace(lowest, highest, rows * columns).reshape(rows, columns)
    noise = rng.normal(0, 2**bits / 40, (rows, columns))
    stored = np.clip(np.rint(ramp + noise), lowest, highest).astype(np.int64)
    stored[0, 0], stored[0, 1] = lowest, highest
    if "padding" in described:
        stored[:, -4:] = described["padding"][0]
    return stored


def write(variant: Variant, compress: Compress | None = None) -> bytes:
    """The DICOM file of a variant.

    Args:
        variant: what to write.
        compress: an encoder for compressed syntaxes; absent, the file is written natively.
    """
    syntax = variant.syntax
    native = syntax in {IMPLICIT, EXPLICIT, BIG}
    frame = compress(bare(variant), syntax) if compress and not native else None
    dataset = _header(variant, syntax if native or frame is not None else EXPLICIT)
    if frame is None:
        _set_native_pixels(dataset, variant)
    else:
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    _set_display(dataset, variant)
    return _to_bytes(dataset)


def bare(variant: Variant) -> bytes:
    """The same stored values, explicit little endian, without anything that changes display."""
    dataset = _header(variant, EXPLICIT)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    _set_native_pixels(dataset, variant)
    return _to_bytes(dataset)


def _header(variant: Variant, syntax: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{variant.number + 1}")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1000001", "2.25.1000002"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Rows, dataset.Columns = variant.stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = variant.photometric
    dataset.BitsAllocated, dataset.BitsStored = variant.allocated, variant.bits
    dataset.HighBit = variant.bits - 1 + variant.shift
    dataset.PixelRepresentation = int(variant.signed)
    return dataset


def _set_native_pixels(dataset: Dataset, variant: Variant) -> None:
    big = dataset.file_meta.TransferSyntaxUID == BIG
    words = (variant.stored & (2**variant.bits - 1)) << variant.shift
    if variant.dirty:
        # Bits that belong to no pixel (PS3.5, 8.1.1): old objects keep overlays there.
        used = (2**variant.bits - 1) << variant.shift
        noise = np.random.default_rng(variant.number).integers(0, 2**variant.allocated, words.shape)
        words = words | (noise & ~used & (2**variant.allocated - 1))
    raw = words.astype(f"{'>' if big else '<'}u{variant.allocated // 8}").tobytes()
    raw += b"\0" * (len(raw) % 2)
    vr = variant.pixel_vr or ("OW" if variant.allocated > 8 else "OB")
    if big and variant.allocated == 8 and vr == "OW":
        raw = np.frombuffer(raw, "<u2").astype(">u2").tobytes()
    dataset.PixelData = raw
    dataset["PixelData"].VR = vr


def _set_display(dataset: Dataset, variant: Variant) -> None:
    """Everything that says how stored values are shown."""
    big = dataset.file_meta.TransferSyntaxUID == BIG
    if variant.shape:
        dataset.PresentationLUTShape = variant.shape
    if variant.rescale:
        dataset.RescaleSlope, dataset.RescaleIntercept = variant.rescale
    if variant.modality_lut:
        item = _lut_item(variant.modality_lut, variant.signed, big)
        dataset.ModalityLUTSequence = Sequence([item])
        dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    if variant.voi_luts:
        signed = any(table.first < 0 for table in variant.voi_luts)
        items = [_lut_item(table, signed, big) for table in variant.voi_luts]
        dataset.VOILUTSequence = Sequence(items)
    if variant.windows:
        dataset.WindowCenter = [centre for centre, _ in variant.windows]
        dataset.WindowWidth = [width for _, width in variant.windows]
        if variant.function:
            dataset.VOILUTFunction = variant.function
    if variant.padding:
        vr = "SS" if variant.signed else "US"
        dataset.add_new(0x00280120, vr, variant.padding[0])
        if len(variant.padding) == 2:
            dataset.add_new(0x00280121, vr, variant.padding[1])
    if variant.spacing:
        setattr(dataset, variant.spacing[0], list(variant.spacing[1]))


def _lut_item(table: Table, signed: bool, big: bool) -> Dataset:
    item = Dataset()
    descriptor = [len(table.entries) % 65536, table.first, table.bits]
    item.add_new(0x00283002, "SS" if signed else "US", descriptor)
    data = table.entries.astype("<u1" if table.packed else "<u2").tobytes()
    data += b"\0" * (len(data) % 2)
    words = np.frombuffer(data, "<u2").astype(">u2" if big else "<u2")
    item.add_new(0x00283006, "OW", words.tobytes())
    return item


def _to_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
