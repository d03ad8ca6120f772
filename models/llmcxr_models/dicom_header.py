"""DICOM elements -> DicomHeader: the attributes that decide how pixels are read and shown.

Knows what the attributes mean (PS3.3 C.7.6.3, C.8.11, C.11); decides nothing. The gates are in
`dicom_gates`, the arithmetic in `dicom_lut`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.dicom_elements import Elements
from llmcxr_models.errors import InvalidRadiograph

_SOP_CLASS = 0x00080016
_MODALITY = 0x00080060
_PRESENTATION_INTENT = 0x00080068
_BODY_PART = 0x00180015
_VIEW_POSITION, _VIEW_CODE, _CODE_VALUE = 0x00185101, 0x00540220, 0x00080100
_PATIENT_ORIENTATION = 0x00200020
_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_PIXEL_SPACING, _ASPECT = 0x00280030, 0x00280034
_IMAGER_SPACING, _SCANNED_SPACING = 0x00181164, 0x00182010
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_PADDING, _PADDING_LIMIT = 0x00280120, 0x00280121
_WINDOW_CENTRE, _WINDOW_WIDTH, _WINDOW_FUNCTION = 0x00281050, 0x00281051, 0x00281056
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_LOSSY = 0x00282110
_MODALITY_LUT, _VOI_LUT = 0x00283000, 0x00283010
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_PRESENTATION_SHAPE = 0x20500020

HEADER_TAGS = {
    value for name, value in list(globals().items()) if name[0] == "_" and isinstance(value, int)
} - {_LUT_DESCRIPTOR, _LUT_DATA, _CODE_VALUE}


@dataclass(frozen=True)
class Lut:
    """A lookup table of the Modality LUT or VOI LUT Sequence (PS3.3 C.11.1.1, C.11.2.1.1).

    Attributes:
        entries: (N,) output values.
        first: input value of the first entry, as an unsigned word.
        first_signed: whether the file says that `first` is signed; None where it does not say.
        bits: of an entry; the declared output range is 0 to 2**bits - 1.
    """

    entries: NDArray[np.uint16]
    first: int
    first_signed: bool | None
    bits: int

    @property
    def highest(self) -> int:
        """Largest value of the declared output range."""
        return int(2**self.bits - 1)

    def first_mapped(self, signed_input: bool) -> int:
        """Input value of the first entry, where the input can be negative or not."""
        signed = signed_input if self.first_signed is None else self.first_signed
        return self.first - 0x10000 if signed and self.first >= 0x8000 else self.first


@dataclass(frozen=True)
class DicomHeader:
    """What the header says about one image; see PS3.3 for each attribute.

    Attributes:
        view_code: Code Value of the View Code Sequence (PS3.16 CID 4010), or empty.
        padding: lowest and highest stored value that is no part of the image, or None.
        windows: (centre, width) pairs.
        aspect: height of a pixel divided by its width.
    """

    sop_class: str
    modality: str
    presentation_intent: str
    body_part: str
    view_position: str
    view_code: str
    patient_orientation: tuple[str, ...]
    samples: int
    photometric: str
    frames: float
    rows: int
    columns: int
    aspect: float
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    modality_lut: Lut | None
    slope: float
    intercept: float
    voi_luts: tuple[Lut, ...]
    windows: tuple[tuple[float, float], ...]
    window_function: str
    presentation_shape: str
    lossy: bool

    @property
    def lowest(self) -> int:
        """Smallest value that a stored pixel can have."""
        return -(2 ** (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest value that a stored pixel can have."""
        return self.lowest + int(2**self.bits_stored) - 1


def is_image(elements: Elements) -> bool:
    """Whether the header describes pixels at all."""
    return _ROWS in elements and _COLUMNS in elements and _BITS_ALLOCATED in elements


def read_identity(elements: Elements) -> tuple[str, str]:
    """SOP Class UID and Modality, for objects that may be no images."""
    return elements.text(_SOP_CLASS), elements.text(_MODALITY).upper()


def read_header(elements: Elements) -> DicomHeader:
    """Interpret the elements of an image.

    Raises:
        InvalidRadiograph: a required attribute is missing or malformed.
    """
    sop_class, modality = read_identity(elements)
    bits_allocated = elements.integer(_BITS_ALLOCATED)
    bits_stored = elements.integer(_BITS_STORED, bits_allocated)
    signed = elements.integer(_SIGNED, 0) == 1
    modality_luts = _read_luts(elements, _MODALITY_LUT)
    return DicomHeader(
        sop_class=sop_class,
        modality=modality,
        presentation_intent=elements.text(_PRESENTATION_INTENT).upper(),
        body_part=elements.text(_BODY_PART).upper(),
        view_position=elements.text(_VIEW_POSITION).upper(),
        view_code=next((item.text(_CODE_VALUE) for item in elements.items(_VIEW_CODE)), ""),
        patient_orientation=tuple(elements.texts(_PATIENT_ORIENTATION)),
        samples=elements.integer(_SAMPLES, 1),
        photometric=elements.text(_PHOTOMETRIC).upper(),
        frames=_first(elements.decimals(_FRAMES), 1.0),
        rows=elements.integer(_ROWS),
        columns=elements.integer(_COLUMNS),
        aspect=_aspect(elements),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=elements.integer(_HIGH_BIT, bits_stored - 1),
        signed=signed,
        padding=_padding(elements, signed),
        modality_lut=modality_luts[0] if modality_luts else None,
        slope=_first(elements.decimals(_SLOPE), 1.0),
        intercept=_first(elements.decimals(_INTERCEPT), 0.0),
        voi_luts=_read_luts(elements, _VOI_LUT),
        windows=_windows(elements),
        window_function=elements.text(_WINDOW_FUNCTION).upper(),
        presentation_shape=elements.text(_PRESENTATION_SHAPE).upper(),
        lossy=elements.text(_LOSSY) == "01",
    )


def _first(numbers: list[float], default: float) -> float:
    return numbers[0] if numbers else default


def _windows(elements: Elements) -> tuple[tuple[float, float], ...]:
    centres, widths = elements.decimals(_WINDOW_CENTRE), elements.decimals(_WINDOW_WIDTH)
    return tuple(zip(centres, widths, strict=False))


def _aspect(elements: Elements) -> float:
    """Vertical by horizontal size: Pixel Aspect Ratio, else the spacing on the detector."""
    for tag in (_ASPECT, _IMAGER_SPACING, _PIXEL_SPACING, _SCANNED_SPACING):
        sizes = elements.decimals(tag)
        if len(sizes) == 2 and min(sizes) > 0:
            return sizes[0] / sizes[1]
    return 1.0


def _padding(elements: Elements, signed: bool) -> tuple[int, int] | None:
    if _PADDING not in elements:
        return None
    value = elements.integer(_PADDING)
    limit = elements.integer(_PADDING_LIMIT, value)
    ends = [end - 0x10000 if signed and end >= 0x8000 else end for end in (value, limit)]
    return min(ends), max(ends)


def _read_luts(elements: Elements, sequence: int) -> tuple[Lut, ...]:
    return tuple(_read_lut(item) for item in elements.items(sequence))


def _read_lut(item: Elements) -> Lut:
    descriptor, data = item.words(_LUT_DESCRIPTOR), item.value(_LUT_DATA)
    if descriptor.size != 3 or not 8 <= descriptor[2] <= 16:
        raise InvalidRadiograph("A lookup table is malformed.", reason="lut")
    count = int(descriptor[0]) or 0x10000  # 65536 does not fit into the word
    entries = item.words(_LUT_DATA)
    if entries.size < count and descriptor[2] == 8:
        # Entries of 8 bits may be packed, two to a word, the first one in its low byte.
        entries = entries.astype("<u2").view(np.uint8).astype(np.uint16)
        if len(data) % 2:
            entries = np.append(entries, np.uint16(data[-1]))
    if entries.size < count:
        raise InvalidRadiograph("A lookup table is malformed.", reason="lut")
    vr = item.vr(_LUT_DESCRIPTOR)
    first_signed = {"SS": True, "US": False}.get(vr)
    bits = int(descriptor[2])
    highest = np.uint16(2**bits - 1)
    return Lut(np.minimum(entries[:count], highest), int(descriptor[1]), first_signed, bits)
