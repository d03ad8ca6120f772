"""DICOM, PNG or JPEG bytes -> Radiograph, told apart by their signatures and never by a name.

Pictures are decoded here; the DICOM arithmetic lives in `dicom_pixels`.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llmcxr_models.dicom_pixels import read_dicom
from llmcxr_models.errors import InvalidRadiograph, UnsupportedMedia, UnsupportedRadiograph
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph import MediaType, Pipeline, Radiograph, check_size, equalise

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"


def sniff(data: bytes) -> MediaType:
    """What `data` is.

    Raises:
        InvalidRadiograph: there are no bytes.
        UnsupportedMedia: none of the accepted signatures.
    """
    if not data:
        raise InvalidRadiograph("The body is empty.", reason="empty")
    if data.startswith(_PNG_SIGNATURE):
        return MediaType.PNG
    if data.startswith(_JPEG_SIGNATURE):
        return MediaType.JPEG
    if data[128:132] == b"DICM" or _looks_like_bare_dicom(data):
        return MediaType.DICOM
    raise UnsupportedMedia("The body is none of DICOM, PNG or JPEG.")


def read_radiograph(data: bytes, pipeline: Pipeline = Pipeline.DISPLAY) -> Radiograph:
    """Decode a file.

    Raises:
        InvalidRadiograph: damaged bytes, or no picture in them.
        UnsupportedMedia: neither DICOM, PNG nor JPEG.
        UnsupportedRadiograph: a sound file that is no single-frame radiograph of a chest.
    """
    media_type = sniff(data)
    if media_type is MediaType.DICOM:
        return read_dicom(data, pipeline)
    return _read_picture(data, media_type, pipeline)


def _looks_like_bare_dicom(data: bytes) -> bool:
    """A data set without preamble: its first element is of a low group, little endian."""
    return len(data) >= 132 and data[1:2] == b"\x00" and data[0:1] in {b"\x02", b"\x08"}


def _read_picture(data: bytes, media_type: MediaType, pipeline: Pipeline) -> Radiograph:
    try:
        with quiet_libraries():
            image = Image.open(io.BytesIO(data), formats=[media_type.name])
            check_size(image.height, image.width)
            if getattr(image, "n_frames", 1) > 1:
                raise UnsupportedRadiograph("The picture is animated.", reason="multi-frame")
            image.load()
    except UnsupportedRadiograph:
        raise
    except Image.DecompressionBombError as error:
        raise UnsupportedRadiograph("The picture is too large.", reason="too-large") from error
    except MemoryError:
        raise UnsupportedRadiograph(
            "The picture needs more memory than it may have.", reason="memory"
        ) from None
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files.
        raise InvalidRadiograph("The picture is damaged and cannot be decoded.") from error
    grey, notes = _to_grey(image)
    if pipeline is Pipeline.MIMIC:
        grey = equalise(np.rint(grey * 255.0).astype(np.uint8)).astype(np.float32) / 255.0
    return Radiograph(np.ascontiguousarray(grey, np.float32), media_type, warnings=notes)


def _to_grey(image: Image.Image) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Grey values in [0, 1] by the declared range of the file's mode."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.float32) / 65535.0
        return np.clip(values, 0.0, 1.0), ()
    if image.mode == "L":
        return np.asarray(image).astype(np.float32) / 255.0, ()
    notes: tuple[str, ...] = ()
    if image.mode not in {"1", "LA"}:
        channels = np.asarray(image.convert("RGB")).astype(np.int16)
        if int(np.ptp(channels, axis=2).max()) > 16:
            notes = ("The picture is in colour; a radiograph is grey. It was converted.",)
    return np.asarray(image.convert("L")).astype(np.float32) / 255.0, notes
