"""JPEG codestreams of DICOM -> samples: cosine transform of 8 and 12 bits, lossless to 16.

What a codestream says of itself is read first, for it is what a decoder believes.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llmcxr_models import gdcm_process
from llmcxr_models.errors import InvalidRadiograph
from llmcxr_models.expendable import is_expendable

_GDCM = Path(gdcm_process.__file__)
_SECONDS = 60
_COSINE = {0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE}
"""SOF markers of the processes with a cosine transform, which have 8 or 12 bits a sample."""


class Codestream(NamedTuple):
    """What a JPEG, JPEG-LS or JPEG 2000 codestream says of itself."""

    rows: int
    columns: int
    components: int
    precision: int
    cosine: bool


def read_jpeg_header(frame: bytes) -> Codestream:
    """The frame header (ISO 10918-1 B.2.2, ISO 14495-1 C.2.2): SOF0-15 or SOF55.

    Raises:
        InvalidRadiograph: there is none, or it is impossible.
    """
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", frame, position)
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
            cosine = marker in _COSINE
            if cosine and precision > 12:
                break  # no such JPEG; decoders return noise
            return Codestream(rows, columns, components, precision, cosine)
        position += 2 + length
    raise _damaged()


def decode_jpeg(frame: bytes, codestream: Codestream, transfer_syntax: str) -> NDArray[np.uint16]:
    """Samples (rows, columns) of one grey frame.

    Raises:
        InvalidRadiograph: the codestream is damaged.
    """
    if codestream.cosine and codestream.precision == 8:
        image = Image.open(io.BytesIO(frame), formats=["JPEG"])
        if image.mode != "L" or image.size != (codestream.columns, codestream.rows):
            raise _damaged()
        return np.asarray(image).astype(np.uint16)
    samples = _run_gdcm(frame, codestream, transfer_syntax)
    dtype = np.uint8 if codestream.precision <= 8 else np.dtype("<u2")
    count = codestream.rows * codestream.columns
    if len(samples) < count * np.dtype(dtype).itemsize:
        raise _damaged()
    values = np.frombuffer(samples, dtype, count).astype(np.uint16)
    return values.reshape(codestream.rows, codestream.columns)


def _run_gdcm(frame: bytes, codestream: Codestream, transfer_syntax: str) -> bytes:
    if is_expendable():
        try:
            return gdcm_process.decode(
                frame, codestream.rows, codestream.columns, codestream.precision, transfer_syntax
            )
        except Exception:  # SWIG raises what it likes; its text is about the file
            raise _damaged() from None
    numbers = [str(n) for n in (codestream.rows, codestream.columns, codestream.precision)]
    # Isolated and without our environment: the child has neither settings nor secrets.
    command = [sys.executable, "-I", str(_GDCM), *numbers, transfer_syntax]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, numbers and a checked UID
            command, input=frame, capture_output=True, timeout=_SECONDS, env={}, check=False
        )
    except subprocess.TimeoutExpired:
        raise _damaged() from None
    if done.returncode != 0:
        raise _damaged()
    return done.stdout


def _damaged() -> InvalidRadiograph:
    return InvalidRadiograph("The compressed pixels are damaged.", reason="codestream")
