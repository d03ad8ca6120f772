"""What all our DICOM objects have in common, and a data set -> bytes of a DICOM file."""

from __future__ import annotations

import io
import logging
from datetime import datetime
from importlib.metadata import version

import highdicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.draft import derived_uid
from llmcxr_service.outputs.marks import MANUFACTURER, long_string
from llmcxr_service.rendering import ModelIdentity

IMPLEMENTATION_CLASS_UID = derived_uid("implementation")
IMPLEMENTATION_VERSION_NAME = f"LLMCXR_{version('llmcxr')}"[:16]
STATION_NAME = "LLMCXR"
TRANSFER_SYNTAX = ExplicitVRLittleEndian
CHARACTER_SET = "ISO_IR 192"
"""UTF-8, whatever the source had: names in every script are then repeated without loss."""

# highdicom's log lines quote UIDs and names, its warnings too.
logging.getLogger("highdicom").setLevel(logging.CRITICAL)


def describe_equipment(dataset: Dataset, model: ModelIdentity) -> None:
    """Say what made the object (PS3.3 C.7.5.1, C.7.5.2): its serial number is the digest."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = long_string(model.name)
    dataset.DeviceSerialNumber = model.digest
    # So that rules for received instances can tell our own results.
    dataset.StationName = STATION_NAME
    dataset.SoftwareVersions = [long_string(model.version), IMPLEMENTATION_VERSION_NAME]


def algorithm_equipment(
    model: ModelIdentity, created: datetime, description: str
) -> highdicom.ContributingEquipment:
    """The model as contributing equipment, as IHE's AI Results profile asks."""
    return highdicom.ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=long_string(model.name),
        software_versions=long_string(model.version),
        device_serial_number=model.digest,
        contribution_datetime=created.replace(microsecond=0),
        contribution_description=description,
    )


def set_created(dataset: Dataset, created: datetime) -> None:
    """Times of making, in the zone of `created`.

    Without (0008,0201) Timezone Offset: that would move the study's own times too.
    """
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.SeriesDate, dataset.SeriesTime = date, time


def to_file(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file (PS3.10), explicit VR little endian."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = TRANSFER_SYNTAX
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    plain = Dataset(dataset)
    plain.file_meta = meta
    plain.preamble = bytes(128)
    stream = io.BytesIO()
    with quiet_libraries():
        plain.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
