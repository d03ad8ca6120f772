"""One hostile request, and the small parts that hostile files are made of."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import UID
from tests.pictures import dicom, save

RLE = "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
PIXEL_DATA = b"\xe0\x7f\x10\0O"

Dice = random.Random


@dataclass(frozen=True)
class Case:
    """A request that must be refused.

    Attributes:
        kind: its class.
        content: the body.
        path: where it goes.
        headers: with it.
        params: its query.
    """

    kind: str
    content: bytes = field(repr=False)
    path: str = "/generate-report"
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


def noise(dice: Dice, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """Grey values that no codec makes small."""
    return np.frombuffer(dice.randbytes(size[0] * size[1]), np.uint8).reshape(size)


def noisy_picture(dice: Dice, kind: str) -> bytes:
    return save(noise(dice), kind)


def noisy_dicom(dice: Dice, **attributes: Any) -> bytes:
    """A sound file of 48 x 48 random pixels; keywords change attributes."""
    uid = f"2.25.{dice.getrandbits(100)}"
    changes: dict[str, Any] = {
        "SOPInstanceUID": uid,
        "Rows": 48,
        "Columns": 48,
        "PixelData": noise(dice).tobytes(),
        **attributes,
    }
    return dicom(InstanceNumber=dice.randrange(10**9), **changes)


@cache
def compressed(syntax: str, seed: int) -> bytes:
    """A sound file in a compressed transfer syntax."""
    dataset = dcmread(DicomBytesIO(noisy_dicom(Dice(seed))))
    options: dict[str, Any] = {"encoding_plugin": "pydicom"} if syntax == RLE else {}
    dataset.compress(UID(syntax), generate_instance_uid=False, **options)
    buffer = DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@cache
def codestream(syntax: str, seed: int) -> bytes:
    """The frame of such a file."""
    data = compressed(syntax, seed)
    start = data.index(PIXEL_DATA) + 12 + 8  # element header, empty offset table
    (length,) = struct.unpack_from("<I", data, start + 4)
    return data[start + 8 : start + 8 + length]


def item(value: bytes, length: int | None = None, tag: bytes = b"\xfe\xff\0\xe0") -> bytes:
    """An item of encapsulated pixels, whose length may lie."""
    return tag + struct.pack("<I", len(value) if length is None else length) + value


DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def encapsulated(dice: Dice, syntax: str, value: bytes) -> bytes:
    """A file whose Pixel Data holds `value` as it is, after the element's header."""
    head = noisy_dicom(dice)
    head = head[: head.index(PIXEL_DATA)].replace(
        b"UI\x14\x001.2.840.10008.1.2.1\0",
        b"UI" + struct.pack("<H", len(syntax) + len(syntax) % 2) + even(syntax),
        1,
    )
    return head + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + value


def in_syntax(data: bytes, syntax: str) -> bytes:
    """An explicit little-endian file that claims to be something else."""
    old = b"UI\x14\x001.2.840.10008.1.2.1\0"
    return data.replace(old, b"UI" + struct.pack("<H", len(even(syntax))) + even(syntax), 1)


def even(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def before_pixels(data: bytes, inserted: bytes) -> bytes:
    start = data.index(PIXEL_DATA)
    return data[:start] + inserted + data[start:]


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little-endian data element, whose length may lie."""
    size = len(value) if length is None else length
    if vr in {b"OB", b"OW", b"SQ", b"UN", b"UT"}:
        return struct.pack("<HH2s2xI", group, number, vr, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def ihdr(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
