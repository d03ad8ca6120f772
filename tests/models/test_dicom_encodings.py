"""Every transfer syntax that is read gives the stored values that were written."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import gdcm
import jpeg_ls
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame

from llmcxr_models.errors import InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.radiograph_file import read_radiograph

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_EXTENDED, JPEG_14, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{n}" for n in (51, 57, 70))
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000, JPEG_2000_LOSSY = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
GDCM = {
    JPEG_14: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEG_LOSSLESS: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def picture(bits: int, signed: bool, seed: int = 3) -> Any:
    """A smooth picture with noise over the whole range, of odd width."""
    low = -(2 ** (bits - 1)) if signed else 0
    noise = np.random.default_rng(seed).integers(0, 2**bits, (64, 51))
    ramp = np.linspace(0, 2**bits - 1, 51)[None, :]
    stored = np.clip((ramp * 0.9 + noise * 0.1).astype(np.int64) + low, low, low + 2**bits - 1)
    stored[0, 0], stored[0, 1] = low, low + 2**bits - 1
    return stored


def expected(stored: Any, bits: int, signed: bool) -> Any:
    low = -(2 ** (bits - 1)) if signed else 0
    return ((stored - low) / (2**bits - 1)).astype(np.float32)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, RLE, JPEG_LS, JPEG_2000])
def test_lossless(make_dicom: Any, syntax: str, bits: int, signed: bool) -> None:
    stored = picture(bits, signed)
    shown = read_radiograph(make_dicom(stored, syntax=syntax, bits=bits, signed=signed)).pixels
    np.testing.assert_allclose(shown, expected(stored, bits, signed), atol=1e-6)


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_eight_bits_in_bytes_and_in_words(make_dicom: Any, syntax: str, vr: str) -> None:
    stored = picture(8, False)
    shown = read_radiograph(make_dicom(stored, syntax=syntax, bits=8, pixel_vr=vr)).pixels
    np.testing.assert_allclose(shown, expected(stored, 8, False), atol=1e-6)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_without_preamble_and_meta_information(make_dicom: Any, syntax: str) -> None:
    stored = picture(12, False)
    shown = read_radiograph(make_dicom(stored, syntax=syntax, preamble=False)).pixels
    np.testing.assert_allclose(shown, expected(stored, 12, False), atol=1e-6)


def test_written_as_implicit_in_spite_of_the_meta_information(make_dicom: Any) -> None:
    stored = picture(12, False)
    data = make_dicom(stored, syntax=IMPLICIT)
    lie = data.replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0", 1)
    # The UI value grows by two bytes, and with it its element and the group length.
    start = lie.index(b"\x02\0\x10\0UI")
    lie = lie[: start + 6] + b"\x14\0" + lie[start + 8 :]
    group = int.from_bytes(lie[140:144], "little") + 2
    lie = lie[:140] + group.to_bytes(4, "little") + lie[144:]
    shown = read_radiograph(lie).pixels
    np.testing.assert_allclose(shown, expected(stored, 12, False), atol=1e-6)


def test_an_implicit_length_that_looks_like_a_vr(make_dicom: Any) -> None:
    """0x4F4F bytes of pixels: the length's bytes are the letters `OO`."""
    stored = np.arange(101 * 201).reshape(101, 201) % 256
    data = make_dicom(stored, syntax=IMPLICIT, bits=8)
    assert b"\xe0\x7f\x10\0\x4e\x4f" in data
    np.testing.assert_allclose(read_radiograph(data).pixels, stored / 255, atol=1e-6)


def test_jpeg_baseline(make_dicom: Any, jpeg_baseline: Any) -> None:
    syntax, encode = jpeg_baseline
    stored = np.tile(np.linspace(0, 255, 64).round(), (48, 1)).astype(int)
    data = make_dicom(stored, syntax=syntax, bits=8, codestream=encode(stored))
    radiograph = read_radiograph(data)
    np.testing.assert_allclose(radiograph.pixels, stored / 255, atol=3 / 255)
    assert any("compressed with loss" in warning for warning in radiograph.warnings)


def _with_gdcm(data: bytes, syntax: str, folder: Path) -> bytes:
    source, target = folder / "in.dcm", folder / "out.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(GDCM[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False)])
@pytest.mark.parametrize("syntax", [JPEG_14, JPEG_LOSSLESS])
def test_jpeg_lossless(
    make_dicom: Any, tmp_path: Path, syntax: str, bits: int, signed: bool
) -> None:
    stored = picture(bits, signed)
    data = _with_gdcm(make_dicom(stored, bits=bits, signed=signed), syntax, tmp_path)
    assert dcmread(tmp_path / "out.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_allclose(
        read_radiograph(data).pixels, expected(stored, bits, signed), atol=1e-6
    )


# A ramp of 48 x 64 values of 12 bits, written by `dcmcjpeg +ee +q 95 +bt` and deflated. Pillow
# writes 8 bits only, and gdcm's encoder an impossible precision of 16.
TWELVE_BITS = (
    "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZmBiREEQCQTCLAwg0hWFhZmFjZWNjYwZufkAGJ2NjYObg5OLhAAsni4"
    "uXhAnP8HGbh5GAwYHBgZBRn+H2EQA5oPNBsJ8PDxAsUlBBiYmFHEGbjdWg79v8XAAVJvz3C4N+oL2zYXAd0q5mgl"
    "DrG9jGsnsnDHNVw70cS63iE7xZHp+gLTTQqN2Rekbgo4bH3BmzPh8Wt80h0K6OZNkqnFJ43FOuf+tcS6BmKeR+FX"
    "Yl0DMe8knx3RroGYZ////00APzmMNA=="
)


def test_jpeg_extended_of_twelve_bits(make_dicom: Any) -> None:
    stored = np.tile(np.linspace(0, 4095, 64).round(), (48, 1)).astype(int)
    codestream = zlib.decompress(base64.b64decode(TWELVE_BITS))
    radiograph = read_radiograph(make_dicom(stored, syntax=JPEG_EXTENDED, codestream=codestream))
    np.testing.assert_allclose(radiograph.pixels, stored / 4095, atol=40 / 4095)
    assert any("compressed with loss" in warning for warning in radiograph.warnings)


def test_one_wrong_byte_that_ends_gdcm_does_not_end_us(make_dicom: Any) -> None:
    """In its own process gdcm calls `terminate` here; the next good file is read as before."""
    good = zlib.decompress(base64.b64decode(TWELVE_BITS))
    bad = good[:102] + bytes([23]) + good[103:]
    for _ in range(2):
        with pytest.raises(InvalidRadiograph) as refusal:
            read_radiograph(make_dicom(np.zeros((48, 64)), syntax=JPEG_EXTENDED, codestream=bad))
        assert refusal.value.reason == "codestream"
        data = make_dicom(np.zeros((48, 64)), syntax=JPEG_EXTENDED, codestream=good)
        assert read_radiograph(data).pixels.shape == (48, 64)


@pytest.mark.parametrize("cut", [2, 40, 300, -40])
def test_baseline_jpeg_that_is_cut_off(make_dicom: Any, jpeg_baseline: Any, cut: int) -> None:
    syntax, encode = jpeg_baseline
    stored = picture(8, False)
    with pytest.raises(InvalidRadiograph):
        read_radiograph(make_dicom(stored, syntax=syntax, bits=8, codestream=encode(stored)[:cut]))


def test_extended_jpeg_of_sixteen_bits_does_not_exist(make_dicom: Any) -> None:
    codestream = bytearray(zlib.decompress(base64.b64decode(TWELVE_BITS)))
    codestream[codestream.index(b"\xff\xc1") + 4] = 16
    data = make_dicom(np.zeros((48, 64)), syntax=JPEG_EXTENDED, codestream=bytes(codestream))
    with pytest.raises(InvalidRadiograph):
        read_radiograph(data)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LS_NEAR])
def test_near_lossless_says_so(make_dicom: Any, syntax: str) -> None:
    data = make_dicom(picture(12, False), syntax=JPEG_LS)
    same_length = data.replace(JPEG_LS.encode(), syntax.encode(), 1)
    said = any("with loss" in warning for warning in read_radiograph(same_length).warnings)
    assert said is (syntax == JPEG_LS_NEAR)


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_ls_of_whole_words(make_dicom: Any, signed: bool, shift: int) -> None:
    """dcmtk compresses the words as they stand: 16 bits of precision, 12 of them stored."""
    stored = picture(12, signed)
    words = ((stored & 0xFFF) << shift).astype(np.uint16)
    codestream = bytes(jpeg_ls.encode_array(words))
    data = make_dicom(
        stored, syntax=JPEG_LS, signed=signed, codestream=codestream, HighBit=11 + shift
    )
    np.testing.assert_allclose(
        read_radiograph(data).pixels, expected(stored, 12, signed), atol=1e-6
    )


def test_lossy_jpeg_2000(make_dicom: Any) -> None:
    stored = picture(12, False)
    data = make_dicom(stored, syntax=JPEG_2000, LossyImageCompression="01")
    radiograph = read_radiograph(data.replace(JPEG_2000.encode(), JPEG_2000_LOSSY.encode(), 1))
    np.testing.assert_allclose(radiograph.pixels, expected(stored, 12, False), atol=1e-6)
    assert any("with loss" in warning for warning in radiograph.warnings)


def test_one_frame_in_many_fragments(make_dicom: Any, tmp_path: Path) -> None:
    stored = picture(12, False)
    path = tmp_path / "whole.dcm"
    path.write_bytes(make_dicom(stored, syntax=JPEG_2000))
    dataset = dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=7)
    dataset.save_as(path)
    shown = read_radiograph(path.read_bytes()).pixels
    np.testing.assert_allclose(shown, expected(stored, 12, False), atol=1e-6)


@pytest.mark.parametrize("uid", [DEFLATED, "1.2.840.10008.1.2.4.100", "2.25.4711"])
def test_other_syntaxes_are_refused(make_dicom: Any, uid: str) -> None:
    data = make_dicom(np.zeros((40, 40)), syntax=EXPLICIT)
    old = b"\x02\0\x10\0UI\x14\x00" + EXPLICIT.encode() + b"\0"
    value = uid.encode() + b"\0" * (len(uid) % 2)
    new = b"\x02\0\x10\0UI" + len(value).to_bytes(2, "little") + value
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(data.replace(old, new, 1))
    assert refusal.value.reason == "transfer-syntax"


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("shape", [(64, 52), (63, 51), (2000, 2000)])
def test_codestream_of_another_size_is_refused(
    make_dicom: Any, syntax: str, shape: tuple[int, int]
) -> None:
    data = make_dicom(picture(12, False), syntax=syntax, Rows=shape[0], Columns=shape[1])
    with pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(data)
    assert refusal.value.reason == "codestream"


def test_colour_codestream_under_a_grey_header_is_refused(
    make_dicom: Any, jpeg_baseline: Any
) -> None:
    syntax, encode = jpeg_baseline
    colour = encode(np.random.default_rng(0).integers(0, 255, (40, 40, 3)))
    with pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(make_dicom(np.zeros((40, 40)), syntax=syntax, bits=8, codestream=colour))
    assert refusal.value.reason == "codestream"
