"""What both structured reports share: parts of content trees (TID 1002, 1004, 1204), the rest."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    LanguageOfContentItemAndDescendants,
    ObservationContext,
    ObserverContext,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from llmcxr_models.observations import Code
from llmcxr_service.draft import DraftReport, derived_uid
from llmcxr_service.outputs.dicom_object import (
    CHARACTER_SET,
    algorithm_equipment,
    describe_equipment,
    set_created,
    to_file,
)
from llmcxr_service.outputs.identity import evidence_of, file_under
from llmcxr_service.outputs.marks import MANUFACTURER, long_string
from llmcxr_service.outputs.object_ids import CODING_SCHEME_UID, ObjectIds
from llmcxr_service.rendering import ModelIdentity
from llmcxr_service.source_instance import SourceInstance

CODING_SCHEME = "99LLMCXR"

_LANGUAGES = {
    "ar": "Arabic", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "fr": "French", "he": "Hebrew", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip


def concept(code: Code) -> CodedConcept:
    """A code of ours as highdicom has it."""
    return CodedConcept(code.value, code.scheme, long_string(code.meaning))


def own_concept(value: str, meaning: str) -> CodedConcept:
    """A code of our own coding scheme."""
    return CodedConcept(value, CODING_SCHEME, meaning)


def language_of(draft: DraftReport) -> LanguageOfContentItemAndDescendants:
    """The language of the text, RFC 5646."""
    meaning = _LANGUAGES.get(draft.language.split("-")[0], draft.language)
    return LanguageOfContentItemAndDescendants(CodedConcept(draft.language, "RFC5646", meaning))


def observed_by(model: ModelIdentity) -> ObservationContext:
    """The observer is a device: this model in exactly this version."""
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", model.digest),
        name=long_string(f"{model.name} {model.version}"),
        manufacturer_name=MANUFACTURER,
        model_name=long_string(model.name),
        serial_number=model.digest,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


@dataclass(frozen=True)
class Series:
    """What the two differ in, beside their content.

    Attributes:
        number: Series Number.
        description: Series Description.
        notice: of the algorithm's contribution.
    """

    number: int
    description: str
    notice: str


def write_report(
    kind: type[EnhancedSR | Comprehensive3DSR],
    content: Dataset,
    ids: ObjectIds,
    draft: DraftReport,
    source: SourceInstance,
    series: Series,
) -> bytes:
    """A DICOM file of a content tree: COMPLETE, PRELIMINARY, UNVERIFIED, in the source's study."""
    document = kind(
        evidence=[evidence_of(source)],
        content=content,
        series_instance_uid=ids.series,
        series_number=series.number,
        sop_instance_uid=ids.sop_instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description=series.description,
        is_complete=True,
        is_final=False,
        is_verified=False,
        contributing_equipment=[algorithm_equipment(draft.model, draft.created, series.notice)],
    )
    _finish(document, draft, source)
    return to_file(document)


def _finish(dataset: Dataset, draft: DraftReport, source: SourceInstance) -> None:
    """Overwrite what highdicom filled in by the clock, or could not be given."""
    dataset.SpecificCharacterSet = CHARACTER_SET
    file_under(dataset, source)
    describe_equipment(dataset, draft.model)
    set_created(dataset, draft.created)
    for item in dataset.ContributingEquipmentSequence:  # highdicom's own has the clock's time
        item.ContributionDateTime = draft.created.replace(microsecond=0)
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    scheme.CodingSchemeUID = CODING_SCHEME_UID
    scheme.CodingSchemeName = "LLM-CXR's own codes"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = [scheme]
