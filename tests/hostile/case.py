"""One hostile request of whatever door, and the small parts that hostile files are made of."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

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
MOST_BYTES = 4 * 1024 * 1024
"""Of one file, as the gateway under attack is set."""

Dice = random.Random


@dataclass(frozen=True)
class Answer:
    """What the hostile archive says, byte by byte.

    Attributes:
        content: what it sends first, HTTP or not.
        then: and after that.
        again: what it repeats, where it is endless or slow.
    """

    content: bytes = field(default=b"", repr=False)
    then: Literal["close", "reset", "silence", "endless", "drip"] = "close"
    again: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Case:
    """An HTTP request that must be refused.

    Attributes:
        kind: its class.
        content: the body.
        path: where it goes.
        headers: with it.
        params: its query.
        answer: what the archive answers, where the request makes the gateway ask it.
    """

    kind: str
    content: bytes = field(repr=False)
    path: str = "/generate-report"
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def identity(self) -> bytes:
        """What makes it another case than others."""
        said = (self.path, self.headers, self.params, self.answer)
        more = b"" if self.answer is None else self.answer.content + self.answer.again
        return repr(said).encode() + self.content + more


@dataclass(frozen=True)
class Store:
    """A C-STORE request that must be refused, or kept and then given up.

    Attributes:
        kind: its class.
        data: the data set's bytes, whatever they are.
        syntax: transfer syntax of the presentation context.
        instance: what the command says that it is.
    """

    kind: str
    data: bytes = field(repr=False)
    syntax: str
    instance: str

    @property
    def identity(self) -> bytes:
        """What makes it another case than others."""
        return f"{self.syntax} {self.instance} ".encode() + self.data


@dataclass(frozen=True)
class Pdus:
    """Bytes for the DIMSE receiver's port that are none of a sound association.

    Attributes:
        kind: their class.
        data: the bytes.
        associated: whether they come within an association that was accepted.
        waits: whether the sender waits for an answer before it closes.
    """

    kind: str
    data: bytes = field(repr=False)
    associated: bool = False
    waits: bool = False

    @property
    def identity(self) -> bytes:
        """What makes it another case than others."""
        return repr((self.associated, self.waits)).encode() + self.data


AnyCase = Case | Store | Pdus


def noise(dice: Dice, size: tuple[int, int] = (48, 48)) -> np.ndarray:
    """Grey values that no codec makes small."""
    return np.frombuffer(dice.randbytes(size[0] * size[1]), np.uint8).reshape(size)


def noisy_picture(dice: Dice, kind: str) -> bytes:
    return save(noise(dice), kind)


def uid(dice: Dice) -> str:
    """A UID of 35 characters, by the dice."""
    return f"2.25.{dice.randint(10**29, 10**30 - 1)}"


def identity(dice: Dice) -> dict[str, str]:
    """What an instance needs to be received."""
    return {f"{name}InstanceUID": uid(dice) for name in ("SOP", "Study", "Series")}


def noisy_dicom(dice: Dice, **attributes: Any) -> bytes:
    """A sound file of 48 x 48 random pixels; keywords change attributes."""
    changes: dict[str, Any] = {
        **identity(dice),
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


def compressed_anew(dice: Dice, syntax: str) -> bytes:
    """One of twenty such files, as an instance of its own."""
    data = compressed(syntax, dice.randrange(20))
    value = data.index(b"\x08\0\x18\0UI") + 8
    return data.replace(data[value : value + 35], uid(dice).encode())


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
