"""A synthetic radiograph as DICOM Secondary Capture: of no patient, in no patient's study.

The words that it was drawn from are not in it: they may come from somebody's report.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.draft import SyntheticRadiograph, derived_uid
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.capture import capture
from llmcxr_service.outputs.dicom_object import algorithm_equipment, to_file
from llmcxr_service.outputs.object_ids import ObjectIds, content_digest
from llmcxr_service.outputs.typeface import Typeface

_SERIES_NUMBER = 9104
_NARROWEST = 512
"""Pixels; the marks are not legible on less."""
_SIZE = 18
_TOP, _BOTTOM = "SYNTHETIC - AI-GENERATED", "NOT A PATIENT - RESEARCH USE ONLY"


def synthetic_capture(image: SyntheticRadiograph) -> bytes:
    """A DICOM file with a study, a series and a patient id of its own, and SyntheticData YES."""
    digest = content_digest(image.grey.shape, image.grey.tobytes().hex())
    parts = (image.model.digest, digest)
    ids = ObjectIds(
        derived_uid("synthetic-image", *parts), derived_uid("synthetic-image-series", *parts)
    )
    with quiet_libraries():
        dataset = capture(
            mark(image.grey)[None], ids, image.model, image.created, conversion_type="SYN"
        )
        dataset.StudyInstanceUID = derived_uid("synthetic-image-study", *parts)
        dataset.PatientID = f"SYNTHETIC-{digest[:16].upper()}"
        dataset.PatientName = "SYNTHETIC^AI-GENERATED"
        dataset.PatientBirthDate = dataset.PatientSex = None
        dataset.StudyDate, dataset.StudyTime = dataset.ContentDate, dataset.ContentTime
        dataset.StudyID = "SYNTHETIC"
        dataset.AccessionNumber = dataset.ReferringPhysicianName = None
        dataset.StudyDescription = "Synthetic chest radiograph (AI-generated)"
        dataset.Modality = "OT"
        dataset.SeriesNumber = _SERIES_NUMBER
        dataset.SeriesDescription = "Synthetic chest radiograph (AI-generated)"
        dataset.SyntheticData = "YES"
        dataset.DerivationDescription = (
            "Drawn by an AI model from text; pixels repeated to be wide enough for the marks"
        )
        dataset.ImageComments = (
            f"{marks.SYNTHETIC_NOTICE} {marks.model_line(image.model)} {image.how.sentence}"
        )
        dataset.ContributingEquipmentSequence = [
            algorithm_equipment(image.model, image.created, marks.SYNTHETIC_NOTICE)
        ]
        return to_file(dataset)


def mark(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture (S, S) with words burned into its upper and lower edge.

    Each pixel is repeated until the picture is wide enough for the words, so that no value is
    made up.
    """
    factor = -(-_NARROWEST // grey.shape[1])
    image = Image.fromarray(grey.repeat(factor, axis=0).repeat(factor, axis=1))
    draw = ImageDraw.Draw(image)
    typeface = Typeface(_SIZE, bold=True, language="en")
    height = typeface.line_height
    for text, top in ((_TOP, 0), (_BOTTOM, image.height - height)):
        draw.rectangle((0, top, image.width, top + height), fill=0)
        ((face, _),) = typeface.runs(text)
        where = (image.width / 2, top + height / 2)
        draw.text(where, text, 255, typeface.font(face), anchor="mm")
    return np.asarray(image)
