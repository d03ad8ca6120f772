"""Grey pictures -> DICOM Secondary Capture attributes, single frame or several pages."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from llmcxr_service.outputs.dicom_object import CHARACTER_SET, describe_equipment, set_created
from llmcxr_service.outputs.object_ids import ObjectIds
from llmcxr_service.rendering import ModelIdentity

_PAGE_NUMBER_VECTOR = 0x00182001


def capture(
    frames: NDArray[np.uint8],
    ids: ObjectIds,
    model: ModelIdentity,
    created: datetime,
    *,
    conversion_type: str,
) -> Dataset:
    """A data set without patient and study: PS3.3 A.8.1, or A.8.3 for several frames.

    Args:
        frames: (P, H, W), MONOCHROME2.
        ids: its UIDs.
        model: what made it.
        created: when.
        conversion_type: PS3.3 C.8.6.1: `WSD` for a page, `SYN` for a synthetic image.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = CHARACTER_SET
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = ids.sop_instance
    dataset.SeriesInstanceUID = ids.series
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    # Type 2C, and then no laterality is asked for.
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientOrientation = None
    dataset.ConversionType = conversion_type
    dataset.BurnedInAnnotation = "YES"
    set_created(dataset, created)
    dataset.DateOfSecondaryCapture = dataset.ContentDate
    dataset.TimeOfSecondaryCapture = dataset.ContentTime
    describe_equipment(dataset, model)
    _put_pixels(dataset, frames)
    if len(frames) > 1:
        _make_multi_frame(dataset, len(frames))
    return dataset


def _put_pixels(dataset: Dataset, frames: NDArray[np.uint8]) -> None:
    _, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    # Viewers that choose a window by the values would turn a white page grey.
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.LossyImageCompression = "00"
    data = frames.tobytes()
    dataset.add_new("PixelData", "OB", data + bytes(len(data) % 2))


def _make_multi_frame(dataset: Dataset, count: int) -> None:
    dataset.SOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    dataset.NumberOfFrames = count
    dataset.FrameIncrementPointer = _PAGE_NUMBER_VECTOR
    dataset.PageNumberVector = list(range(1, count + 1))
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"


def reference(sop_class_uid: str, sop_instance_uid: str) -> Sequence:
    """A sequence with one reference to an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return Sequence([item])
