"""The programs of dcmtk and gdcm as a second opinion, and as encoders; each call is one process."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame
from tests import dicom_variants as dicom

PROGRAMS = ("dcmj2pnm", "dcml2pnm", "dcmcjpeg", "dcmcjpls", "dcmcrle", "dcmdjpeg", "gdcmconv")

_ENCODERS = {
    dicom.RLE: ["dcmcrle", "-q"],
    dicom.JPEG_EXTENDED: ["dcmcjpeg", "-q", "+ee", "+q", "92", "+bt", "+sr"],
    dicom.JPEG_14: ["dcmcjpeg", "-q", "+el"],
    dicom.JPEG_SV1: ["dcmcjpeg", "-q", "+e1"],
    dicom.JPEG_LS: ["dcmcjpls", "-q", "+el"],
    dicom.JPEG_LS_NEAR: ["dcmcjpls", "-q", "+en", "+md", "2"],
    dicom.JPEG_2000: ["gdcmconv", "--j2k"],
    dicom.JPEG_2000_LOSSY: ["gdcmconv", "--j2k", "--lossy", "-r", "6"],
}
_LS = {dicom.JPEG_LS, dicom.JPEG_LS_NEAR}
_2000 = {dicom.JPEG_2000, dicom.JPEG_2000_LOSSY}


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Dcmtk:
    """Works in one folder, over and over on the same names."""

    def __init__(self, folder: Path) -> None:
        self._in, self._out = folder / "in.dcm", folder / "out"

    def compress(self, native: bytes, syntax: str) -> bytes:
        """The codestream of a native file's one frame."""
        if syntax == dicom.JPEG_BASELINE:
            return self._baseline(native)
        self._run(_ENCODERS[syntax], native)
        dataset = dcmread(self._out)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        return get_frame(dataset.PixelData, 0, number_of_frames=1)

    def show(self, variant: dicom.Variant, data: bytes) -> NDArray[np.float64]:
        """What dcmtk shows of the variant in `data`, in [0, 1].

        It does not read JPEG 2000: there gdcm decodes, and dcmtk shows the decoded values
        under the variant's own header, for gdcm writes another Bits Stored.
        """
        syntax = variant.syntax
        if syntax in _2000:
            values = replace(variant, stored=self.stored(variant, data))
            syntax, data = dicom.EXPLICIT, dicom.write(replace(values, syntax_name="explicit"))
        voi = ["+Wl", "1"] if variant.voi_luts else ["+Wi", "1"] if variant.windows else ["-W"]
        return self._picture(data, syntax, voi)

    def show_file(self, data: bytes) -> NDArray[np.float64]:
        """The same of any file."""
        dataset = dcmread(io.BytesIO(data))
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        if syntax in _2000:
            self._run(["gdcmconv", "--raw"], data)
            raw = dcmread(self._out)
            raw.BitsStored, raw.HighBit = dataset.BitsStored, dataset.HighBit
            buffer = io.BytesIO()
            raw.save_as(buffer)
            syntax, data = dicom.EXPLICIT, buffer.getvalue()
        window = ["+Wi", "1"] if "WindowCenter" in dataset else ["-W"]
        return self._picture(data, syntax, ["+Wl", "1"] if "VOILUTSequence" in dataset else window)

    def encode(self, data: bytes, syntax: str) -> bytes:
        """The same object in another transfer syntax."""
        self._run(_ENCODERS[syntax], data)
        return self._out.read_bytes()

    def _picture(self, data: bytes, syntax: str, voi: list[str]) -> NDArray[np.float64]:
        program = "dcml2pnm" if syntax in _LS else "dcmj2pnm"
        # O: without overlays; on2: a PNG of 16 bits.
        self._run([program, "-q", "+on2", "-O", *voi], data)
        picture = np.asarray(Image.open(io.BytesIO(self._out.read_bytes())))
        return picture.astype(np.float64) / 65535.0

    def stored(self, variant: dicom.Variant, data: bytes) -> NDArray[np.int64]:
        """Stored values of a compressed variant, by their decoders and not by ours."""
        command = ["dcmdjpeg", "-q"]
        if variant.syntax in _2000 | _LS:
            command = ["dcmdjpls", "-q"] if variant.syntax in _LS else ["gdcmconv", "--raw"]
        self._run(command, data)
        dataset = dcmread(self._out)
        kind = "i" if dataset.PixelRepresentation else "u"
        words = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
        values = words[: variant.stored.size].astype(np.int64).reshape(variant.stored.shape)
        # A lossy codec may overshoot the declared bits by a little.
        return np.clip(values, variant.lowest, variant.highest)

    def _baseline(self, native: bytes) -> bytes:
        dataset = dcmread(io.BytesIO(native))
        grey = np.frombuffer(dataset.PixelData, np.uint8)[: dataset.Rows * dataset.Columns]
        buffer = io.BytesIO()
        picture = Image.fromarray(grey.reshape(dataset.Rows, dataset.Columns))
        picture.save(buffer, "JPEG", quality=92)
        return buffer.getvalue()

    def _run(self, command: list[str], data: bytes) -> None:
        self._in.write_bytes(data)
        self._out.unlink(missing_ok=True)
        done = subprocess.run(
            [*command, str(self._in), str(self._out)],
            capture_output=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0 or not self._out.is_file():
            raise AssertionError(f"{command}: {done.stderr.decode(errors='replace')}")
