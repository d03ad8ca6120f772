"""Hostile and broken DICOM: always a typed error, soon, in little memory, with nothing leaked."""

from __future__ import annotations

import logging
import random
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from llmcxr_models.errors import CxrError, InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph_file import read_radiograph

RLE = "1.2.840.10008.1.2.5"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
SECRET = "Zq7-Patient-Value"
MEGABYTE = 1 << 20


@contextmanager
def bounded(seconds: float, megabytes: float = 0) -> Iterator[None]:
    """Fail where the body takes more CPU time, or Python memory, than a hostile file may."""
    if megabytes:
        tracemalloc.start()
    started = time.thread_time()
    yield
    taken, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < seconds
    assert peak <= megabytes * MEGABYTE


def _before_pixels(data: bytes, inserted: bytes) -> bytes:
    """Explicit VR bytes with something put in front of the Pixel Data element."""
    start = data.index(b"\xe0\x7f\x10\0O")
    return data[:start] + inserted + data[start:]


def _sequence(depth: int, *, defined: bool, tag: bytes = b"\x40\0\x75\x02") -> bytes:
    value = b""
    for _ in range(depth):
        if defined:
            item = b"\xfe\xff\0\xe0" + struct.pack("<I", len(value)) + value
            value = tag + b"SQ\0\0" + struct.pack("<I", len(item)) + item
        else:
            item = b"\xfe\xff\0\xe0\xff\xff\xff\xff" + value + b"\xfe\xff\x0d\xe0\0\0\0\0"
            value = tag + b"SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return value


def test_deeply_nested_sequences(make_dicom: Any) -> None:
    with bounded(5, 50), pytest.raises(InvalidRadiograph):
        read_radiograph(_before_pixels(make_dicom(), _sequence(1000, defined=False)))


def test_nested_sequences_of_known_length_are_skipped(make_dicom: Any) -> None:
    data = _before_pixels(make_dicom(), _sequence(500, defined=True))
    with bounded(5, 50):
        assert read_radiograph(data).pixels.shape == (40, 36)


def test_deeply_nested_lookup_table(make_dicom: Any) -> None:
    nested = _sequence(2000, defined=True, tag=b"\x28\0\x10\x30")
    with bounded(5, 50), pytest.raises(InvalidRadiograph):
        read_radiograph(_before_pixels(make_dicom(), nested))


def test_a_sound_private_sequence_of_unknown_length_is_skipped(make_dicom: Any) -> None:
    data = _before_pixels(make_dicom(), _sequence(3, defined=False, tag=b"\x41\0\x10\x10"))
    assert read_radiograph(data).pixels.shape == (40, 36)


def test_very_many_empty_elements(make_dicom: Any) -> None:
    empty = b"".join(struct.pack("<HH2sH", 0x41, n % 60000, b"LO", 0) for n in range(200_000))
    data = _before_pixels(make_dicom(), empty)
    with bounded(2), pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(data)
    assert refusal.value.reason == "header"


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFF, 100_000])
def test_an_element_longer_than_the_file(make_dicom: Any, length: int) -> None:
    bomb = b"\x41\0\x10\x10OB\0\0" + struct.pack("<I", length)
    with bounded(1, 10), pytest.raises(InvalidRadiograph):
        read_radiograph(_before_pixels(make_dicom(), bomb))


@pytest.mark.parametrize("length", [0xFFFFFFF0, 100_000])
def test_pixel_data_longer_than_the_file(make_dicom: Any, length: int) -> None:
    data = make_dicom(bits=8)
    start = data.index(b"\xe0\x7f\x10\0O") + 8
    with bounded(1, 10), pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(data[:start] + struct.pack("<I", length) + data[start + 4 :])
    assert refusal.value.reason == "truncated"


def test_a_lookup_table_of_absurd_length(make_dicom: Any) -> None:
    data = _before_pixels(make_dicom(), b"\x28\0\x10\x30SQ\0\0" + struct.pack("<I", 50_000_000))
    with bounded(1, 10), pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(data)
    assert refusal.value.reason == "header"


def test_deflated_bomb_is_not_inflated(make_dicom: Any) -> None:
    meta = make_dicom(syntax="1.2.840.10008.1.2.1.99")[:400]
    bomb = zlib.compress(b"\0" * (64 * MEGABYTE), 9)
    with bounded(1, 10), pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(meta + bomb)
    assert refusal.value.reason == "transfer-syntax"


def test_huge_dimensions_in_a_small_rle_file(make_dicom: Any) -> None:
    with bounded(1, 10), pytest.raises(UnsupportedRadiograph):
        read_radiograph(make_dicom(syntax=RLE, Rows=65535, Columns=65535))


@pytest.mark.parametrize("change", range(0, 64, 3))
def test_damaged_rle(make_dicom: Any, change: int) -> None:
    data = bytearray(make_dicom(syntax=RLE))
    start = data.index(b"\xe0\x7f\x10\0O") + 28  # into the RLE header of the frame
    data[start + change] ^= 0xFF
    _typed_or_read(bytes(data))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE, JPEG_LS, JPEG_2000])
def test_cut_off_anywhere(make_dicom: Any, syntax: str) -> None:
    data = make_dicom(syntax=syntax)
    for length in range(1, len(data) - 16, max(1, len(data) // 150)):
        with pytest.raises(CxrError):
            read_radiograph(data[:length])


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", RLE])
def test_random_damage_is_a_typed_error_or_a_picture(make_dicom: Any, syntax: str) -> None:
    data, dice = make_dicom(syntax=syntax), random.Random(7)
    header = data.index(b"\xe0\x7f\x10\0") + 12
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(128, header)] = dice.randrange(256)
        _typed_or_read(bytes(damaged))


def _typed_or_read(data: bytes) -> None:
    try:
        pixels = read_radiograph(data).pixels
    except CxrError:
        return
    assert np.isfinite(pixels).all()
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_malformed_numbers_are_typed_and_not_quoted(make_dicom: Any) -> None:
    data = make_dicom(WindowCenter=123456, WindowWidth=1000)
    with pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(data.replace(b"123456", b"12x4y6"))
    assert "12x4y6" not in str(refusal.value)
    for text in (b"  nan ", b"  inf ", b"1e9999"):
        with pytest.raises(InvalidRadiograph):
            read_radiograph(data.replace(b"123456", text))


@pytest.mark.parametrize("keyword", ["Modality", "BodyPartExamined", "ViewPosition"])
def test_header_values_do_not_leak(
    make_dicom: Any, caplog: pytest.LogCaptureFixture, capfd: Any, keyword: str
) -> None:
    clean = make_dicom(**{keyword: "X" * 16}, PatientName="Y" * len(SECRET))
    data = clean.replace(b"X" * 16, SECRET[:16].encode()).replace(
        b"Y" * len(SECRET), SECRET.encode()
    )
    damaged = data[:-200]
    told = ""
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for file in (data, damaged):
            try:
                told += "".join(read_radiograph(file).warnings)
            except CxrError as error:
                told += f"{error} {error.__cause__} {error.reason}"
    captured = capfd.readouterr()
    everything = told + caplog.text + captured.out + captured.err + str([w.message for w in caught])
    assert SECRET[:16] not in everything


def test_undecodable_characters_are_no_crash(make_dicom: Any) -> None:
    data = make_dicom(BodyPartExamined="CHESTXYZ", SpecificCharacterSet="ISO_IR 192")
    radiograph = read_radiograph(data.replace(b"CHESTXYZ", b"\xff\xfe\x80T\xc3RAX"))
    assert any("not known" in warning for warning in radiograph.warnings)


def test_quiet_is_quiet_in_several_threads_and_undone_afterwards() -> None:
    """Whoever leaves last restores; nobody in between brings the warnings back."""
    before = list(warnings.filters)
    entered, first_out = threading.Barrier(2), threading.Event()

    def first() -> None:
        with quiet_libraries():
            entered.wait()
        first_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    with quiet_libraries():
        entered.wait()
        first_out.wait()
        warnings.warn_explicit("value", UserWarning, "x.py", 1, module="pydicom.values")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("ours", UserWarning, "x.py", 1, module="llmcxr_models.x")
    thread.join()
    assert list(warnings.filters) == before
