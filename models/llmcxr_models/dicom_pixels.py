"""DICOM bytes -> Radiograph: refuse by the header, then decode, then show.

The order is the point: every gate stands before the first pixel is touched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llmcxr_models import dicom_frame, dicom_gates, dicom_lut
from llmcxr_models.dicom_elements import ElementReader
from llmcxr_models.dicom_header import (
    HEADER_TAGS,
    DicomHeader,
    is_image,
    read_header,
    read_identity,
)
from llmcxr_models.errors import InvalidInput, InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.expendable import allow_time_for
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph import MediaType, Pipeline, Radiograph, check_size

_SQUARE_ENOUGH = 0.01
"""Pixels whose sides differ by less are left alone: spacings are rounded in headers."""
_NEARLY_UNIFORM = 0.02


def read_dicom(data: bytes, pipeline: Pipeline = Pipeline.DISPLAY) -> Radiograph:
    """Decode a DICOM file of one grey frame.

    Args:
        data: the file.
        pipeline: how stored values become display values.

    Raises:
        InvalidRadiograph: damaged, contradictory, or without pixels.
        UnsupportedRadiograph: a sound file that is no single-frame radiograph of a chest.
    """
    try:
        with quiet_libraries():
            return _read(data, pipeline)
    except (InvalidInput, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError:
        raise UnsupportedRadiograph(
            "The picture needs more memory than it may have.", reason="memory"
        ) from None
    except BaseException:
        # Decoders raise anything: RecursionError, MemoryError, struct.error, and Rust's panics
        # even as BaseException. Their messages quote values, hence no `from error`.
        raise InvalidRadiograph("The DICOM file is damaged and cannot be read.") from None


def _read(data: bytes, pipeline: Pipeline) -> Radiograph:
    reader = ElementReader(data)
    dicom_frame.check_transfer_syntax(reader.transfer_syntax)
    elements = reader.header(HEADER_TAGS)
    dicom_gates.check_kind(*read_identity(elements))
    if not is_image(elements):
        raise InvalidRadiograph("The DICOM object holds no image.", reason="no-pixels")
    header = read_header(elements)
    dicom_gates.check_header(header)
    lossy = dicom_frame.is_lossy(reader.transfer_syntax)
    notes = dicom_gates.doubts(header, lossy)
    allow_time_for(header.rows * header.columns)
    stored = dicom_frame.decode(reader.pixel_data(), header, reader.transfer_syntax)
    if pipeline is Pipeline.MIMIC:
        shown = dicom_lut.show_like_mimic(stored, header)
    else:
        shown, more = dicom_lut.show(stored, header)
        notes += more
    if float(np.ptp(shown)) < _NEARLY_UNIFORM:
        notes.append("The picture is nearly uniform; there may be nothing in it.")
    pixels = _square_pixels(shown, header)
    return Radiograph(
        np.ascontiguousarray(pixels, np.float32),
        MediaType.DICOM,
        modality=header.modality,
        view_position=dicom_gates.view_position(header),
        body_part=header.body_part,
        warnings=tuple(notes),
    )


def _square_pixels(shown: NDArray[np.float32], header: DicomHeader) -> NDArray[np.float32]:
    """Enlarge the longer side of non-square pixels (PS3.3 C.7.6.3.1.7), so nothing is lost."""
    if abs(header.aspect - 1.0) < _SQUARE_ENOUGH:
        return shown
    rows, columns = shown.shape
    if header.aspect > 1:
        rows = round(rows * header.aspect)
    else:
        columns = round(columns / header.aspect)
    check_size(rows, columns)
    resized = Image.fromarray(shown).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, dtype=np.float32), 0.0, 1.0)
