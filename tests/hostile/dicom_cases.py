"""Classes of hostile DICOM: each function makes one file, bad by construction."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import Any

from tests.hostile.case import (
    BIG_ENDIAN,
    DEFLATED,
    DELIMITER,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LS,
    PIXEL_DATA,
    RLE,
    Dice,
    before_pixels,
    codestream,
    compressed_anew,
    element,
    encapsulated,
    identity,
    in_syntax,
    item,
    noisy_dicom,
    noisy_picture,
)
from tests.hostile.killers import twelve_bit, twelve_bit_codestream

_SCRIPTS = (
    b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>endobj\n",
    b"#!/bin/sh\nexec /bin/true\n",
    b"<html><script>alert(1)</script></html>",
    b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
    b"\x7fELF\x02\x01\x01\0",
    b"PK\x03\x04\x14\0\0\0\x08\0",
)


def deflated_bomb(dice: Dice) -> bytes:
    """Some 500 kB that would be 512 MiB."""
    head = noisy_dicom(dice)
    return in_syntax(head[: head.index(b"\x08\0\x16\0UI")], DEFLATED) + _bomb() + dice.randbytes(8)


@cache
def _bomb(mebibytes: int = 512) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    zeros = bytes(1 << 20)
    return b"".join(deflate.compress(zeros) for _ in range(mebibytes)) + deflate.flush()


def nested_sequences(dice: Dice) -> bytes:
    value = b""
    tag = struct.pack("<HH", 0x40, 0x275)
    for _ in range(dice.randint(500, 2000)):
        value = (
            tag
            + b"SQ\0\0\xff\xff\xff\xff"
            + item(value, 0xFFFFFFFF)
            + (b"\xfe\xff\x0d\xe0\0\0\0\0" + DELIMITER)
        )
    return before_pixels(noisy_dicom(dice), value)


def empty_elements(dice: Dice) -> bytes:
    count = dice.randint(60_000, 200_000)
    return before_pixels(noisy_dicom(dice), element(0x41, dice.randrange(9000), b"LO", b"") * count)


def element_length(dice: Dice) -> bytes:
    """An element that says it is longer than the file."""
    length = dice.choice([0xFFFFFFF0, 0x7FFFFFFF, dice.randint(10_000, 2**32 - 2)])
    vr = dice.choice([b"OB", b"UN", b"UT", b"OW"])
    lie = element(0x41, dice.randrange(0x1000, 0xFFFF), vr, dice.randbytes(4), length)
    return before_pixels(noisy_dicom(dice), lie)


def pixel_length(dice: Dice) -> bytes:
    """Pixel Data that says it is longer than the file."""
    data = noisy_dicom(dice)
    start = data.index(PIXEL_DATA) + 8
    length = dice.randint(len(data), 2**32 - 2)
    return data[:start] + struct.pack("<I", length) + data[start + 4 :]


def rle_dimensions(dice: Dice) -> bytes:
    data = compressed_anew(dice, RLE)
    rows, columns = dice.randint(16_385, 65_535), dice.randint(16_385, 65_535)
    for number, size in ((0x10, rows), (0x11, columns)):
        tag = struct.pack("<HH2sH", 0x28, number, b"US", 2)
        start = data.index(tag) + 8
        data = data[:start] + struct.pack("<H", size) + data[start + 2 :]
    return data


def rle_malformed(dice: Dice) -> bytes:
    segment = bytes([127]) + dice.randbytes(128)  # far less than 48 x 48 values
    segments, first = 1, 64
    damage = dice.randrange(4)
    if damage == 0:
        segments = dice.choice([0, *range(2, 16), dice.randint(17, 2**32 - 1)])
    elif damage == 1:
        first = dice.randint(65 + len(segment), 2**32 - 1)
    elif damage == 2:
        segment = segment[: dice.randint(1, 60)]
    frame = struct.pack("<16I", segments, first, *[0] * 14) + segment
    if damage == 3:
        frame = frame[: dice.randint(0, 63)]
    return encapsulated(dice, RLE, item(b"") + item(frame + b"\0" * (len(frame) % 2)) + DELIMITER)


def preamble(dice: Dice) -> bytes:
    """A program or document that is DICOM at its 128th byte only."""
    script = dice.choice(_SCRIPTS) + dice.randbytes(8).hex().encode()
    rest = noisy_dicom(dice)[128 : dice.randint(150, 700)]
    return script.ljust(128, b" ")[:128] + rest + script * dice.randint(1, 30)


def truncated(dice: Dice) -> bytes:
    syntax = dice.choice([None, None, RLE, JPEG_LS, JPEG_2000])
    data = noisy_dicom(dice) if syntax is None else compressed_anew(dice, syntax)
    return data[: dice.randint(132, len(data) - 40)]


def wrong_vr(dice: Dice) -> bytes:
    """An element of two bytes in a form of which the length takes four."""
    data = noisy_dicom(dice)
    number = dice.choice([0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x02])
    start = data.index(struct.pack("<HH2sH", 0x28, number, b"US", 2)) + 4
    vr = dice.choice([b"OB", b"OW", b"UN", b"UT", b"OF", b"UC", b"OD", b"OL"])
    return data[:start] + vr + data[start + 2 :]


_CONTRADICTIONS: tuple[dict[str, object], ...] = (
    {"BitsStored": 12},
    {"BitsStored": 2},
    {"BitsAllocated": 32},
    {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
    {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11},
    {"HighBit": 15},
    {"HighBit": 2},
    {"SamplesPerPixel": 3},
    {"SamplesPerPixel": 0},
    {"PhotometricInterpretation": "RGB"},
    {"PhotometricInterpretation": "PALETTE COLOR"},
    {"PhotometricInterpretation": ""},
    {"NumberOfFrames": 0},
    {"NumberOfFrames": 99},
    {"RescaleSlope": 0, "RescaleIntercept": 0},
    {"PixelAspectRatio": [1, 900]},
    {"BitsAllocated": 16},
)


def contradictions(dice: Dice) -> bytes:
    changes = dict(dice.choice(_CONTRADICTIONS))
    if dice.random() < 0.3:
        changes |= {"Rows": dice.choice([0, 1, 31, 65_535, dice.randint(200, 60_000)])}
    return noisy_dicom(dice, **changes)


def fragments(dice: Dice) -> bytes:
    """Encapsulated pixels without, or with impossible, fragments."""
    syntax = dice.choice([RLE, JPEG_LS, JPEG_2000, JPEG_BASELINE])
    frame = codestream(syntax if syntax != JPEG_BASELINE else JPEG_LS, dice.randrange(20))
    values = (
        b"",
        DELIMITER,
        item(b""),
        item(b"") + DELIMITER,
        item(b"") + item(b"") + DELIMITER,
        item(b"") + item(frame, dice.randint(len(frame) + 20, 2**32 - 2)),
        item(b"") + item(frame, tag=struct.pack("<HH", 0xFFFE, dice.randrange(0x1000))),
        item(b"", tag=struct.pack("<HH", 0xFFFE, dice.randrange(0x1000))) + item(frame),
        item(dice.randbytes(dice.randint(1, 30)), dice.randint(2**31, 2**32 - 2)) + item(frame),
        frame,
    )
    return encapsulated(dice, syntax, dice.choice(values))


def undefined_length(dice: Dice) -> bytes:
    """A value without end."""
    vr = dice.choice([b"OB", b"OW", b"UN", b"SQ"])
    value = dice.randbytes(dice.randint(0, 60))
    lie = element(0x41, dice.randrange(0x1000, 0xFFFF), vr, value, 0xFFFFFFFF)
    return before_pixels(noisy_dicom(dice), lie)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_garbage(dice: Dice) -> bytes:
    """JPEG in DICOM: noise, other dimensions, no tables, no scan."""
    picture = noisy_picture(dice, "JPEG")
    frame_header = picture.index(b"\xff\xc0")
    quantisation = picture.index(b"\xff\xdb")
    scan = picture.index(b"\xff\xda")
    frames = (
        dice.randbytes(dice.randint(2, 400)),
        b"\xff\xd8" + dice.randbytes(dice.randint(2, 400)),
        picture[: frame_header + 5] + dice.randbytes(4) + picture[frame_header + 9 :],
        picture[:scan],
        picture[: scan + dice.randint(12, 40)],
        picture[:quantisation] + picture[frame_header:],
        picture[: frame_header + 4]
        + bytes([dice.choice([0, 3, 13, 16])])
        + picture[frame_header + 5 :],
    )
    frame = dice.choice(frames)
    return encapsulated(dice, JPEG_BASELINE, item(b"") + item(frame) + DELIMITER)


def lossless_garbage(dice: Dice) -> bytes:
    """Lossless JPEG, for gdcm, whose tables or scans are missing or impossible."""
    frame = b"\xff\xd8" + _segment(0xC3, struct.pack(">BHHB3B", 12, 48, 48, 1, 1, 0x11, 0))
    counts = [dice.choice([0, 0, 255, dice.randrange(256)]) for _ in range(16)]
    bad_table = _segment(0xC4, bytes([0, *counts]) + dice.randbytes(dice.randint(0, 40)))
    scan = _segment(0xDA, bytes([1, 1, 0, dice.randrange(1, 8), 0, 0]))
    endings = (
        b"",
        scan,
        scan + dice.randbytes(dice.randint(0, 20)),
        bad_table + scan + dice.randbytes(30),
        _segment(0xDA, dice.randbytes(dice.randint(0, 9))),
        _segment(0xC4, b"") + scan,
        b"\xff\xd9",
    )
    frame += dice.choice(endings)
    return encapsulated(dice, JPEG_LOSSLESS, item(b"") + item(frame) + DELIMITER)


def decoder_killers(dice: Dice) -> bytes:
    """The wrong byte on which gdcm ends its process, with other damage behind it."""
    frame = bytearray(twelve_bit_codestream())
    frame[102] = 23
    for _ in range(dice.randint(0, 5)):
        frame[dice.randrange(300, len(frame) - 2)] = dice.randrange(256)
    tail = dice.randbytes(2 * dice.randrange(8))
    return twelve_bit(bytes(frame) + tail, **identity(dice))


def jpeg_ls_garbage(dice: Dice) -> bytes:
    frame = codestream(JPEG_LS, dice.randrange(20))
    scan = frame.index(b"\xff\xda")
    frames = (
        dice.randbytes(dice.randint(2, 400)),
        frame[:scan],
        frame[: scan + dice.randint(2, 200)],
        frame[:4] + dice.randbytes(dice.randint(4, 12)) + frame[scan:],
        frame[: scan + 5] + dice.randbytes(5) + frame[scan + 10 : scan + 40],
    )
    return encapsulated(dice, JPEG_LS, item(b"") + item(dice.choice(frames)) + DELIMITER)


def jpeg_2000_garbage(dice: Dice) -> bytes:
    frame = codestream(JPEG_2000, dice.randrange(20))
    style = frame.index(b"\xff\x52")
    frames = (
        dice.randbytes(dice.randint(2, 400)),
        b"\xff\x4f\xff\x51" + dice.randbytes(dice.randint(0, 80)),
        frame[:style],
        frame[:style] + dice.randbytes(dice.randint(2, 200)),
        frame[: style + dice.randint(2, 12)],
    )
    return encapsulated(dice, JPEG_2000, item(b"") + item(dice.choice(frames)) + DELIMITER)


def lookup_tables(dice: Dice) -> bytes:
    """Modality and VOI LUTs that are huge, short, or of impossible bits."""
    number = dice.choice([0x3000, 0x3010])
    entries = dice.randint(2, 3000)
    descriptors = (
        (entries * 2 + 1, 0, 16),
        (0, 0, 16),
        (entries, dice.randrange(65_536), dice.choice([0, 1, 7, 17, 99])),
        (65_535, 65_535, 8),
    )
    descriptor = element(0x28, 0x3002, b"US", struct.pack("<3H", *dice.choice(descriptors)))
    data = element(0x28, 0x3006, b"OW", dice.randbytes(entries * 2))
    lie = dice.random() < 0.3
    sequence = item(descriptor + data)
    length = dice.randint(2_000_000, 2**32 - 2) if lie else len(sequence)
    return before_pixels(noisy_dicom(dice), element(0x28, number, b"SQ", sequence, length))


def odd_numbers(dice: Dice) -> bytes:
    """Numbers in other scripts, infinite, or none."""
    words = (
        "nan",
        "inf",
        "-inf",
        "1e999",
        "\u0661\u0662",
        "\uff11\uff12",
        "0x80",
        "12 8",
        "1,5",
        "--1",
        "½",
        "∞",
    )
    word = dice.choice(words).encode(dice.choice(["utf-8", "utf-16-le", "utf-8"]))
    word = (word + bytes(dice.choice(b"abcdefxyz") for _ in range(8)))[: dice.randint(9, 16)]
    numbers = (0x1050, 0x1051, 0x1052, 0x1053, 0x0030)
    number = dice.choice(numbers)
    data = noisy_dicom(dice, RescaleIntercept=0, RescaleSlope=1, PixelSpacing=[1, 1])
    tag = struct.pack("<HH2s", 0x28, number, b"DS")
    start = data.index(tag)
    (old,) = struct.unpack_from("<H", data, start + 6)
    word += b" " * (len(word) % 2)
    return data[:start] + element(0x28, number, b"DS", word) + data[start + 8 + old :]


def endian_mix(dice: Dice) -> bytes:
    """Little-endian data that claims to be big-endian, or with its halves mixed."""
    data = in_syntax(noisy_dicom(dice), BIG_ENDIAN)
    if dice.random() < 0.5:
        return data
    start = data.index(PIXEL_DATA)
    return data[:start] + data[start : start + 4][::-1] + data[start + 4 :]


_OTHER_CLASSES = ("2", "4", "6.1", "12.1", "20", "88.11", "104.1", "481.2", "7.4", "77.1.4", "128")


def other_objects(dice: Dice) -> bytes:
    """Sound files that are no single-frame radiograph of a chest."""
    storage = "1.2.840.10008.5.1.4.1.1."
    changes: dict[str, Any] = dice.choice(
        [
            {"SOPClassUID": storage + dice.choice(_OTHER_CLASSES)},
            {"Modality": dice.choice(["CT", "MR", "US", "NM", "PT", "MG", "SR", "XA", "ECG"])},
            {"BodyPartExamined": dice.choice(["HAND", "SKULL", "KNEE", "ABDOMEN", "FOOT"])},
            {"PresentationIntentType": "FOR PROCESSING"},
            {"NumberOfFrames": dice.randint(2, 5000)},
            {"SOPClassUID": storage + "1.1.1"},
        ]
    )
    return noisy_dicom(dice, **changes)


def random_data_set(dice: Dice) -> bytes:
    return bytes(128) + b"DICM" + dice.randbytes(dice.randint(0, 3000))


def missing_elements(dice: Dice) -> bytes:
    """Files without what their pixels cannot be read without."""
    data = noisy_dicom(dice)
    number = dice.choice([0x04, 0x10, 0x11, 0x100, 0x7FE0])
    if number == 0x7FE0:
        return data[: data.index(PIXEL_DATA)] + element(0x41, 0x10, b"LO", b"ab") * dice.randint(
            0, 9
        )
    vr = b"CS" if number == 0x04 else b"US"
    start = data.index(struct.pack("<HH2s", 0x28, number, vr))
    (length,) = struct.unpack_from("<H", data, start + 6)
    return data[:start] + data[start + 8 + length :]
