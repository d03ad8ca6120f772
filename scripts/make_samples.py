"""Make samples/ from the public radiographs that it names; kept so that it can be done again.

    .venv/bin/python scripts/make_samples.py DATA

DATA holds dicom/chest/nih_udacity_test1.dcm, nih_udacity_test2.dcm and
cxr/hannover/images/23823ebc.jpg; samples/README.md says where they come from.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
)

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
# Arbitrary, but always the same; UIDs below 2.25 need no registered root (DICOM PS3.5 B.2).
STUDY = UID("2.25.27182818284590")
SERIES = UID("2.25.31415926535897")
INSTANCE = UID("2.25.16180339887498")


def main(data: Path) -> None:
    """Write all samples."""
    chest = data / "dicom" / "chest"
    write_dicom(chest / "nih_udacity_test1.dcm", SAMPLES / "example-patient.dcm")
    write_png(chest / "nih_udacity_test2.dcm", SAMPLES / "cardiomegaly.png", side=512)
    hannover = data / "cxr" / "hannover" / "images" / "23823ebc.jpg"
    shutil.copyfile(hannover, SAMPLES / "hannover-23823ebc.jpg")


def write_dicom(source: Path, target: Path) -> None:
    """The picture of `source` under a header that is invented from end to end."""
    pixels = pydicom.dcmread(source).pixel_array
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    header.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    header.SOPClassUID = DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID = INSTANCE
    header.SeriesInstanceUID = SERIES
    header.StudyInstanceUID = STUDY
    describe_study(header)
    describe_image(header)
    header.set_pixel_data(np.ascontiguousarray(pixels, np.uint8), "MONOCHROME2", 8)
    header.compress(JPEGLSLossless, generate_instance_uid=False)
    header.save_as(target, enforce_file_format=True)


def describe_study(header: Dataset) -> None:
    """A patient who does not exist."""
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName = "Example^Patient"
    header.PatientID = "EXAMPLE-0001"
    header.PatientBirthDate = "19500101"
    header.PatientSex = "O"
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = "20240101"
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = "120000"
    header.AccessionNumber = "EXAMPLE1"
    header.ReferringPhysicianName = "Example^Physician"
    header.StudyDescription = "CHEST PA"
    header.StudyID = header.SeriesNumber = header.InstanceNumber = "1"
    header.Manufacturer = "Example"
    header.InstitutionName = "Example Hospital"


def describe_image(header: Dataset) -> None:
    """A frontal digital radiograph for presentation (DICOM PS3.3 A.26)."""
    header.ImageType = ["DERIVED", "PRIMARY"]
    header.DerivationDescription = "NIH ChestX-ray14 picture under an invented header"
    header.Modality = "DX"
    header.PresentationIntentType = "FOR PRESENTATION"
    header.BodyPartExamined = "CHEST"
    header.ViewPosition = "PA"
    header.PatientOrientation = ["L", "F"]
    header.ImageLaterality = "U"
    header.PixelIntensityRelationship = "LOG"
    header.PixelIntensityRelationshipSign = -1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = "0", "1", "US"
    header.PresentationLUTShape = "IDENTITY"
    header.WindowCenter, header.WindowWidth = "128", "256"
    header.LossyImageCompression = "00"
    header.BurnedInAnnotation = "NO"


def write_png(source: Path, target: Path, side: int) -> None:
    """The picture of `source`, smaller, as 8-bit grey."""
    picture = Image.fromarray(pydicom.dcmread(source).pixel_array)
    picture.resize((side, side), Image.Resampling.LANCZOS).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
