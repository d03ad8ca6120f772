"""Pixel Data -> stored values: native, RLE, JPEG, JPEG-LS and JPEG 2000.

Knows encodings, not meaning. What a codestream says of its own size is compared with the
header before a decoder sees it: a decoder allocates what the codestream asks for.
"""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

from llmcxr_models.dicom_elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    PIXEL_DATA,
    Elements,
)
from llmcxr_models.dicom_header import DicomHeader
from llmcxr_models.dicom_jpeg import Codestream, decode_jpeg, read_jpeg_header
from llmcxr_models.errors import InvalidRadiograph, UnsupportedRadiograph

_NATIVE = {IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG}
_RLE = "1.2.840.10008.1.2.5"
_JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)}
_JPEG_LS = {f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)}
_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}
_LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81)}

# Which of pydicom's decoders: its own for RLE, because pylibjpeg-rle panics on damaged frames.
_PLUGINS = {
    _RLE: "pydicom",
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}


def check_transfer_syntax(uid: str) -> None:
    """Refuse encodings that are not read.

    Deflated files are refused before anything is inflated: 500 kB may be 500 MB.

    Raises:
        UnsupportedRadiograph: not one of the encodings above.
    """
    if uid not in _NATIVE | _JPEG | set(_PLUGINS):
        raise UnsupportedRadiograph(
            "The transfer syntax is not supported.", reason="transfer-syntax"
        )


def is_lossy(uid: str) -> bool:
    """Whether a transfer syntax always loses something; JPEG 2000 (.91) may or may not."""
    return uid in _LOSSY


def decode(pixel_data: Elements, header: DicomHeader, transfer_syntax: str) -> NDArray[np.int32]:
    """Stored values (rows, columns).

    Raises:
        InvalidRadiograph: no pixels, fewer than the header says, or a damaged codestream.
    """
    value = pixel_data.value(PIXEL_DATA)
    if not value:
        raise InvalidRadiograph("The DICOM object has no pixel data.", reason="no-pixels")
    if transfer_syntax in _NATIVE:
        return _unpack(
            _native_words(value, pixel_data.vr(PIXEL_DATA), header, transfer_syntax), header
        )
    if transfer_syntax == _RLE:
        words = _with_pydicom(value, header, transfer_syntax, raw_words=True)
        return _unpack(words, header)
    frame = get_frame(value, 0, number_of_frames=1)
    read = _read_jpeg_2000_header if transfer_syntax in _JPEG_2000 else read_jpeg_header
    codestream = read(frame)
    if codestream[:3] != (header.rows, header.columns, 1) or not 2 <= codestream.precision <= 16:
        raise InvalidRadiograph("Header and compressed pixels disagree.", reason="codestream")
    if transfer_syntax in _JPEG_2000:  # the codestream itself knows signs
        return _with_pydicom(value, header, transfer_syntax, raw_words=False).astype(np.int32)
    if transfer_syntax in _JPEG:
        samples = decode_jpeg(frame, codestream, transfer_syntax)
    else:
        samples = _with_pydicom(value, header, transfer_syntax, raw_words=True)
    if header.high_bit >= header.bits_stored and codestream.precision > header.high_bit:
        return _unpack(samples, header)  # whole words were compressed
    return _signed(samples, header)


def _native_words(
    value: bytes, vr: str, header: DicomHeader, transfer_syntax: str
) -> NDArray[np.uint16]:
    count = header.rows * header.columns
    if len(value) < count * header.bits_allocated // 8:
        raise InvalidRadiograph("The pixel data is cut off.", reason="truncated")
    order = ">" if transfer_syntax == EXPLICIT_BIG else "<"
    if header.bits_allocated == 16:
        words = np.frombuffer(value, f"{order}u2", count).astype(np.uint16)
    elif order == ">" and vr == "OW":
        # PS3.5 annex A.3: two pixels in a big-endian word, the first one in its low byte.
        pairs = np.frombuffer(value[: len(value) // 2 * 2], ">u2").astype("<u2")
        words = pairs.view(np.uint8)[:count].astype(np.uint16)
    else:
        words = np.frombuffer(value, np.uint8, count).astype(np.uint16)
    if words.size < count:
        raise InvalidRadiograph("The pixel data is cut off.", reason="truncated")
    return words.reshape(header.rows, header.columns)


def _unpack(words: NDArray[np.uint16], header: DicomHeader) -> NDArray[np.int32]:
    """Take the stored bits out of their words; the others may hold anything (PS3.5, 8.1.1)."""
    shifted = words >> np.uint16(header.high_bit + 1 - header.bits_stored)
    return _signed(shifted & np.uint16(2**header.bits_stored - 1), header)


def _signed(values: NDArray[np.uint16], header: DicomHeader) -> NDArray[np.int32]:
    """Two's complement of the stored bits, where the header says that pixels are signed."""
    wide = values.astype(np.int32)
    if not header.signed:
        return wide
    unused = 32 - header.bits_stored
    return (wide << unused) >> unused


def _with_pydicom(
    value: bytes, header: DicomHeader, transfer_syntax: str, *, raw_words: bool
) -> NDArray[np.uint16]:
    # pydicom annotates its keyword options as if each were the whole dictionary.
    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "bits_allocated": header.bits_allocated,
        "bits_stored": header.bits_allocated if raw_words else header.bits_stored,
        "pixel_representation": 0 if raw_words else int(header.signed),
    }
    plugin = _PLUGINS[transfer_syntax]
    decoder = get_decoder(transfer_syntax)
    array, _ = decoder.as_array(value, raw=True, index=0, decoding_plugin=plugin, **options)
    return cast("NDArray[np.uint16]", array)


def _read_jpeg_2000_header(frame: bytes) -> Codestream:
    """The SIZ marker segment (ISO 15444-1 A.5.1), which follows SOC at once."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise InvalidRadiograph("The compressed pixels are damaged.", reason="codestream")
    right, below, left, top = struct.unpack_from(">4I", frame, start + 8)
    components, depth = struct.unpack_from(">HB", frame, start + 40)
    return Codestream(below - top, right - left, components, (depth & 0x7F) + 1, cosine=False)
