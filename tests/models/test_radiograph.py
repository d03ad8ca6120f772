"""PNG and JPEG in, Radiograph out; and what is refused."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llmcxr_models.errors import InvalidRadiograph, UnsupportedMedia, UnsupportedRadiograph
from llmcxr_models.radiograph import MediaType, Pipeline, Radiograph, check_size, equalise
from llmcxr_models.radiograph_file import read_radiograph, sniff

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def encoded(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def hand_made_png(width: int, height: int) -> bytes:
    """A valid, small file of very many black pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    row = b"\0" * (width + 1)
    squeeze = zlib.compressobj(9)
    pixels = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_png_of_eight_bits() -> None:
    radiograph = read_radiograph(encoded(Image.fromarray(RAMP)))
    assert radiograph.media_type is MediaType.PNG
    assert radiograph.warnings == ()
    np.testing.assert_allclose(radiograph.pixels, RAMP / 255, atol=1e-7)


def test_png_of_sixteen_bits_is_scaled_by_its_declared_range() -> None:
    values = np.linspace(0, 30000, 64 * 48).astype(np.uint16).reshape(64, 48)
    radiograph = read_radiograph(encoded(Image.fromarray(values)))
    np.testing.assert_allclose(radiograph.pixels, values / 65535, atol=1e-7)


def test_jpeg() -> None:
    radiograph = read_radiograph(encoded(Image.fromarray(RAMP), "JPEG", quality=98))
    assert radiograph.media_type is MediaType.JPEG
    np.testing.assert_allclose(radiograph.pixels, RAMP / 255, atol=4 / 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_grey_in_other_modes(mode: str) -> None:
    grey = Image.fromarray(np.where(RAMP > 127, 255, 0).astype(np.uint8))
    radiograph = read_radiograph(encoded(grey.convert(mode)))
    assert radiograph.warnings == ()
    np.testing.assert_allclose(radiograph.pixels, np.asarray(grey) / 255, atol=2 / 255)


def test_a_grey_palette_is_read_through_its_palette() -> None:
    image = Image.new("P", (256, 64))
    image.putpalette([value for level in range(256) for value in (255 - level,) * 3])
    image.putdata(RAMP.ravel().tolist())
    np.testing.assert_allclose(read_radiograph(encoded(image)).pixels, 1 - RAMP / 255, atol=2 / 255)


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_colour_is_converted_and_said(name: str) -> None:
    colour = Image.merge("RGB", [Image.fromarray(RAMP), *[Image.new("L", (256, 64))] * 2])
    assert "colour" in " ".join(read_radiograph(encoded(colour, name)).warnings)


def test_mimic_equalises() -> None:
    grey = (RAMP // 4 + 30).astype(np.uint8)
    radiograph = read_radiograph(encoded(Image.fromarray(grey)), Pipeline.MIMIC)
    np.testing.assert_array_equal(np.rint(radiograph.pixels * 255), equalise(grey))


def test_equalise_of_known_values() -> None:
    """Written out after OpenCV's equalizeHist: the first occupied bin becomes 0."""
    levels = np.array([[10, 10, 20, 30]], np.uint8)
    np.testing.assert_array_equal(equalise(levels), [[0, 0, 128, 255]])
    np.testing.assert_array_equal(equalise(np.full((2, 2), 9, np.uint8)), np.full((2, 2), 9))


def test_animated_png_is_refused() -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    data = encoded(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(data)
    assert refusal.value.reason == "multi-frame"


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_cut_off_anywhere(name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), name)
    for length in range(8, len(data) - 40, len(data) // 40):
        with pytest.raises(InvalidRadiograph):
            read_radiograph(data[:length])


def test_a_damaged_checksum() -> None:
    data = bytearray(encoded(Image.fromarray(RAMP)))
    data[40] ^= 0xFF
    with pytest.raises(InvalidRadiograph):
        read_radiograph(bytes(data))


@pytest.mark.parametrize("size", [(20_000, 20_000), (13_000, 13_000), (16_385, 40)])
def test_a_huge_png_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    # The size decides, so a few rows are enough of a 20,000 x 20,000 file: its header is whole.
    data = hand_made_png(size[0], 40) if size[1] == 40 else _with_height(size)
    started = time.perf_counter()
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(data)
    assert refusal.value.reason == "too-large"
    assert time.perf_counter() - started < 1


def _with_height(size: tuple[int, int]) -> bytes:
    data = bytearray(hand_made_png(size[0], 200))
    data[20:24] = struct.pack(">I", size[1])
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


@pytest.mark.parametrize("size", [(31, 100), (100, 31), (1, 1)])
def test_tiny_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(encoded(Image.new("L", size)))
    assert refusal.value.reason == "too-small"


def test_check_size_accepts_the_largest_detectors() -> None:
    check_size(5000, 5000)
    check_size(32, 32)


def test_empty_body() -> None:
    with pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(b"")
    assert refusal.value.reason == "empty"


@pytest.mark.parametrize(
    "data",
    [b"a letter, named scan.dcm", b"%PDF-1.7", b"GIF89a" + b"\0" * 200, b"\x1f\x8b" + b"\0" * 200,
     b"\0" * 500, b"BM" + b"\0" * 200],
)  # fmt: skip
def test_other_media(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        read_radiograph(data)


def test_a_gif_under_a_png_signature_is_damaged() -> None:
    with pytest.raises(InvalidRadiograph):
        read_radiograph(b"\x89PNG\r\n\x1a\n" + encoded(Image.fromarray(RAMP), "GIF"))


def test_sniff_goes_by_signature(make_dicom: Any) -> None:
    assert sniff(make_dicom()) is MediaType.DICOM
    assert sniff(make_dicom(preamble=False)) is MediaType.DICOM
    assert sniff(encoded(Image.fromarray(RAMP))) is MediaType.PNG


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((1, 2, 2), np.float32)])
def test_a_radiograph_has_float32_rows_and_columns(pixels: Any) -> None:
    with pytest.raises(ValueError, match="float32"):
        Radiograph(pixels, MediaType.PNG)


def test_reading_in_many_threads_at_once(make_dicom: Any) -> None:
    files = [make_dicom(), encoded(Image.fromarray(RAMP)), make_dicom(Modality="CT")]
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                read_radiograph(files[0])
                read_radiograph(files[1])
                with pytest.raises(UnsupportedRadiograph):
                    read_radiograph(files[2])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
