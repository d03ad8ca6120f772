"""Which storage SOP classes and transfer syntaxes are taken in, over every way in."""

from __future__ import annotations

from typing import Literal

from pydicom import uid

SopClassName = Literal[
    "ComputedRadiographyImageStorage",
    "DigitalXRayImageStorageForPresentation",
    "SecondaryCaptureImageStorage",
    "MultiFrameGrayscaleByteSecondaryCaptureImageStorage",
    "MultiFrameGrayscaleWordSecondaryCaptureImageStorage",
]
"""Keywords of PS3.6, table A-1. DX FOR PROCESSING is not among them: it cannot be shown rightly."""

SOP_CLASSES: dict[SopClassName, str] = {
    "ComputedRadiographyImageStorage": uid.ComputedRadiographyImageStorage,
    "DigitalXRayImageStorageForPresentation": uid.DigitalXRayImageStorageForPresentation,
    "SecondaryCaptureImageStorage": uid.SecondaryCaptureImageStorage,
    "MultiFrameGrayscaleByteSecondaryCaptureImageStorage": (
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    ),
    "MultiFrameGrayscaleWordSecondaryCaptureImageStorage": (
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    ),
}
_RADIOGRAPHS: tuple[SopClassName, ...] = (
    "ComputedRadiographyImageStorage",
    "DigitalXRayImageStorageForPresentation",
)

TRANSFER_SYNTAXES: tuple[str, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.RLELossless,
    uid.JPEG2000,
    uid.JPEGLSNearLossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
)
"""All that the pixel code reads, the preferred first: nothing lost before something lost."""


def accepted_sop_classes(*, secondary_capture: bool) -> frozenset[str]:
    """UIDs of what is taken in.

    Args:
        secondary_capture: whether grey Secondary Captures are; they seldom say what they show.
    """
    if secondary_capture:
        return frozenset(SOP_CLASSES.values())
    return frozenset(SOP_CLASSES[name] for name in _RADIOGRAPHS)
