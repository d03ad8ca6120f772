"""Which DICOM objects are a chest radiograph that may be read: refusals and doubts.

Every gate works on the header alone, so that nothing is decoded for a file that is refused.
"""

from __future__ import annotations

from llmcxr_models.dicom_header import DicomHeader
from llmcxr_models.errors import InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.radiograph import check_size

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_FOR_PROCESSING = _STORAGE + "1.1.1"
_RADIOGRAPHS = {_STORAGE + suffix for suffix in ("1", "1.1", "1.1.1")}
# Secondary Capture, and its multi-frame grey forms, which may hold one frame.
_CAPTURES = {_STORAGE + suffix for suffix in ("7", "7.2", "7.3")}

_RADIOGRAPHY = {"CR", "DX", "RG"}
_VAGUE_MODALITIES = {"", "SC", "OT"}

_CHEST = {"CHEST", "THORAX", "RIBCAGE", "RIB", "RIBS", "LUNG", "LUNGS", "HEART", "MEDIASTINUM"}
# PS3.16 annex L, as far as no chest radiograph is stated like this. A word that is in neither
# list (other languages, a department's own names) raises a doubt, not a refusal.
_OTHER_BODY_PARTS = {
    "ABDOMEN", "ABDOMENPELVIS", "ANKLE", "ARM", "BLADDER", "BRAIN", "BREAST", "CALCANEUS", "CALF",
    "CAROTID", "CEREBELLUM", "CERVIX", "COCCYX", "COLON", "CSPINE", "EAR", "ELBOW", "EXTREMITY",
    "EYE", "FACE", "FEMUR", "FIBULA", "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP",
    "HUMERUS", "JAW", "KIDNEY", "KNEE", "LEG", "LIVER", "LOWEREXTREMITY", "LOWERLEG", "LSPINE",
    "LUMBARSPINE", "MANDIBLE", "MAXILLA", "NECK", "NOSE", "ORBIT", "PANCREAS", "PATELLA",
    "PELVIS", "RADIUS", "SACRUM", "SCAPULA", "SCROTUM", "SHOULDER", "SINUS", "SKULL", "SPLEEN",
    "SSPINE", "TEETH", "THIGH", "THUMB", "TIBIA", "TMJ", "TOE", "TOOTH", "ULNA",
    "UPPEREXTREMITY", "UTERUS", "WRIST", "ZYGOMA",
}  # fmt: skip
# SNOMED CT and the SRT codes before it: lateral, left lateral, right lateral (CID 4010).
_LATERAL_CODES = {"399067008", "399173006", "399198007", "R-102CD", "R-10236", "R-10232"}
LATERAL = "LATERAL"
"""What an image's view is called that is lateral by anything but View Position."""

_GREY = {"MONOCHROME1", "MONOCHROME2"}


def check_kind(sop_class: str, modality: str) -> None:
    """Refuse what is no radiograph: CT, ultrasound, reports, plans, curves.

    Raises:
        UnsupportedRadiograph: by SOP class or modality.
    """
    if sop_class == _FOR_PROCESSING:
        _refuse_for_processing()
    known = sop_class in _RADIOGRAPHS or sop_class in _CAPTURES
    if modality not in _RADIOGRAPHY | _VAGUE_MODALITIES or (
        sop_class.startswith(_STORAGE) and not known
    ):
        raise UnsupportedRadiograph("The DICOM object is no radiograph.", reason="modality")


def check_header(header: DicomHeader) -> None:
    """Refuse what the model may not read, or what cannot be shown rightly.

    Raises:
        UnsupportedRadiograph: several frames, colour, for processing, another body part, size.
        InvalidRadiograph: the header contradicts itself.
    """
    if header.presentation_intent == "FOR PROCESSING":
        _refuse_for_processing()
    if header.frames != 1:
        raise UnsupportedRadiograph("The image has not exactly one frame.", reason="multi-frame")
    if _plain(header.body_part) in _OTHER_BODY_PARTS:
        raise UnsupportedRadiograph("The image is of another body part.", reason="body-part")
    if header.samples != 1 or header.photometric not in _GREY | {""}:
        raise UnsupportedRadiograph("The image is in colour.", reason="colour")
    if not header.photometric:
        # Bright bones or dark bones: a wrong guess would turn the picture into its negative.
        raise InvalidRadiograph("The photometric interpretation is missing.", reason="photometric")
    check_size(header.rows, header.columns)
    _check_bits(header)
    if not 0.25 <= header.aspect <= 4:
        raise UnsupportedRadiograph("The pixels are far from square.", reason="aspect-ratio")


def view_position(header: DicomHeader) -> str:
    """View Position; where that is empty, `LATERAL` if anything else in the header says so.

    Vendors leave View Position out: then there is the View Code, or rows that run to the
    patient's front or back.
    """
    sideways = len(header.patient_orientation) == 2 and (
        header.patient_orientation[0].upper() in {"A", "P"}
    )
    if not header.view_position and (header.view_code in _LATERAL_CODES or sideways):
        return LATERAL
    return header.view_position


def doubts(header: DicomHeader, lossy_syntax: bool) -> list[str]:
    """What a reader of the answer should know about the file, as sentences."""
    found = []
    if header.modality in _VAGUE_MODALITIES:
        found.append("The header does not say that this is a radiograph (CR or DX).")
    if not header.body_part:
        found.append("The header does not state the body part.")
    elif _plain(header.body_part) not in _CHEST:
        found.append("The header states a body part that is not known to be the chest.")
    if header.lossy or lossy_syntax:
        found.append("The image was compressed with loss.")
    if not header.voi_luts and not header.windows:
        found.append("The header has no window; the full range of values is shown.")
    if len(header.voi_luts or header.windows) > 1:
        found.append("The header has several windows; the first one is used.")
    if header.photometric == "MONOCHROME1" and header.presentation_shape == "IDENTITY":
        found.append("The header contradicts itself about which values are dark.")
    if not _is_upright(header.patient_orientation):
        found.append("The header says that the picture is rotated or mirrored.")
    return found


def _is_upright(orientation: tuple[str, ...]) -> bool:
    """Whether rows run to the patient's left (or front or back) and columns to the feet."""
    return len(orientation) != 2 or (
        not orientation[0].startswith(("R", "H", "F")) and orientation[1].startswith("F")
    )


def _check_bits(header: DicomHeader) -> None:
    if header.bits_allocated not in (8, 16) or not header.bits_stored >= 8:
        raise UnsupportedRadiograph("The image has not 8 to 16 bits a pixel.", reason="bit-depth")
    if not header.bits_stored - 1 <= header.high_bit < header.bits_allocated:
        raise InvalidRadiograph("The bits of a pixel are stated wrongly.", reason="header")


def _plain(word: str) -> str:
    """Letters only, so that `C-SPINE`, `LOWER LEG` and `LOWER_LEG` are found."""
    return "".join(letter for letter in word if letter.isalpha())


def _refuse_for_processing() -> None:
    raise UnsupportedRadiograph(
        "The image is raw (FOR PROCESSING); send the one FOR PRESENTATION.",
        reason="for-processing",
    )
