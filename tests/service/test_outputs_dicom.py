"""Drafts -> DICOM SR and Secondary Capture: content, identity, marks, validators."""

import io
import logging
import warnings

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from tests import dicom_judges, drafts

from llmcxr_models.errors import UnsupportedRadiograph
from llmcxr_models.report import Report
from llmcxr_service.errors import NotAcceptable
from llmcxr_service.outputs.enhanced_sr import enhanced_sr
from llmcxr_service.outputs.findings_sr import findings_sr
from llmcxr_service.outputs.formats import check_possible, render
from llmcxr_service.outputs.page_capture import page_capture
from llmcxr_service.outputs.synthetic_capture import synthetic_capture
from llmcxr_service.receiving import Output

FILED = (enhanced_sr, findings_sr, page_capture)
LATIN = "de"


def read(data):
    return dcmread(io.BytesIO(data))


def texts(item):
    """All text values of a content tree."""
    own = [item.TextValue] if "TextValue" in item else []
    return own + [text for child in item.get("ContentSequence", []) for text in texts(child)]


def values_of(item, keyword):
    found = [item[keyword].value] if keyword in item else []
    return found + [v for c in item.get("ContentSequence", []) for v in values_of(c, keyword)]


@pytest.mark.parametrize("make", FILED)
def test_it_is_filed_in_the_study_of_its_source(make):
    source = drafts.source(LATIN)
    result = read(make(drafts.draft(LATIN)))
    assert result.StudyInstanceUID == source.study_instance_uid
    assert result.SeriesInstanceUID != source.series_instance_uid
    assert result.SOPInstanceUID != source.sop_instance_uid
    assert str(result.PatientName) == source.patient_name
    assert (result.PatientID, result.AccessionNumber) == ("4711-A", "ACC0815")
    assert result.IssuerOfPatientID == "General Hospital"
    assert result.StudyDate == "20260228"
    assert result.ContentDate == "20260301"


@pytest.mark.parametrize("make", FILED)
def test_it_says_what_made_it(make):
    result = read(make(drafts.draft()))
    model = drafts.MODEL
    assert result.ManufacturerModelName == model.name
    assert result.DeviceSerialNumber == model.digest
    assert result.SoftwareVersions[0] == model.version
    equipment = result.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert "AI-GENERATED DRAFT" in equipment.ContributionDescription


@pytest.mark.parametrize("language", drafts.LANGUAGES)
def test_the_report_comes_back_in_every_script(language):
    result = read(enhanced_sr(drafts.draft(language)))
    name, findings, impression = drafts.LANGUAGES[language]
    notice, model, how, *report = texts(result)[4:]
    assert notice.startswith("AI-GENERATED DRAFT")
    assert f"sha256:{drafts.MODEL.digest}" in model
    assert how.startswith("Drawn with seed 7, temperature 0, top_p 1, at most 256 tokens.")
    assert report == [findings, impression]
    assert str(result.PatientName) == name.rstrip("=")
    assert result.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("make", [enhanced_sr, findings_sr])
def test_reports_are_preliminary_and_unverified(make):
    result = read(make(drafts.draft()))
    assert result.PreliminaryFlag == "PRELIMINARY"
    assert result.VerificationFlag == "UNVERIFIED"
    assert result.CompletionFlag == "COMPLETE"
    evidence = result.CurrentRequestedProcedureEvidenceSequence[0]
    (referenced,) = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert referenced.ReferencedSOPInstanceUID == drafts.source().sop_instance_uid


def test_observations_with_probability_algorithm_and_code():
    draft = drafts.draft()
    data = findings_sr(draft)
    document = highdicom.sr.Comprehensive3DSR.from_dataset(read(data))
    assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = document.content.get_image_measurement_groups()
    assert len(groups) == len(draft.observations)
    for group, observation in zip(groups, draft.observations, strict=True):
        assert group.finding_type.value == observation.finding.code.value
        (measurement,) = group.get_measurements()
        assert measurement.name.value == "111012"
        assert measurement.value == pytest.approx(100 * observation.probability, abs=0.05)
        said = [
            e.value.meaning
            for e in group.get_qualitative_evaluations()
            if e.name.value == "MENTIONED"
        ]
        assert said == {True: ["Yes"], False: ["No"], None: []}[observation.mentioned]
        assert "unverified" in group.tracking_identifier
    assert f"digest=sha256:{drafts.MODEL.digest}" in texts(document)


def test_a_page_is_one_object_however_long():
    short = read(page_capture(drafts.draft()))
    assert short.SOPClassUID.name == "Secondary Capture Image Storage"
    assert (short.ConversionType, short.BurnedInAnnotation) == ("WSD", "YES")
    assert short.pixel_array.min() == 0
    assert short.pixel_array.max() == 255
    long = read(page_capture(drafts.draft(report=Report("The lungs are clear. " * 400))))
    assert long.SOPClassUID.name == "Multi-frame Grayscale Byte Secondary Capture Image Storage"
    assert long.NumberOfFrames == len(long.pixel_array) == len(long.PageNumberVector) > 1
    for page in (short.pixel_array, *long.pixel_array):
        # Head and foot: white words on black.
        assert page[:8].max() == 0
        assert page[-8:].max() == 0
        assert page[:56].max() == 255


def test_a_synthetic_image_belongs_to_nobody():
    image = drafts.synthetic(size=64)
    result = read(synthetic_capture(image))
    assert result.SyntheticData == "YES"
    assert (result.ConversionType, result.BurnedInAnnotation) == ("SYN", "YES")
    assert result.PatientID.startswith("SYNTHETIC-")
    assert str(result.PatientName) == "SYNTHETIC^AI-GENERATED"
    assert list(result.ImageType) == ["DERIVED", "SECONDARY"]
    assert "sha256:" in result.ImageComments
    assert "CANARY" not in str(result)
    marked = result.pixel_array
    assert marked.shape == (512, 512)
    # Between the marks every pixel is the model's own, repeated.
    np.testing.assert_array_equal(marked[40:460:8, ::8], image.grey[5:58])
    other = read(synthetic_capture(drafts.synthetic(size=64, seed=8)))
    assert other.StudyInstanceUID != result.StudyInstanceUID
    assert other.PatientID != result.PatientID


@pytest.mark.parametrize("make", FILED)
def test_the_same_draft_is_the_same_bytes(make):
    assert make(drafts.draft()) == make(drafts.draft())


@pytest.mark.parametrize("make", FILED)
def test_uids_follow_from_source_model_and_words(make):
    first = read(make(drafts.draft())).SOPInstanceUID
    again = read(make(drafts.draft(how=drafts.drawn(8), created=drafts.CREATED.replace(hour=1))))
    assert again.SOPInstanceUID == first
    model = type(drafts.MODEL)("LLM-CXR demo", "0.1.0", "f" * 64)
    changes = (
        {"model": model},
        {"source": drafts.source(key="another")},
        {"warnings": ("Something is odd.",)},
    )
    uids = {first} | {read(make(drafts.draft(**change))).SOPInstanceUID for change in changes}
    assert len(uids) == 4


def test_other_words_are_another_object():
    one, two = (
        read(enhanced_sr(drafts.draft(report=Report("Clear.", text)))) for text in ("A.", "B.")
    )
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID


def test_malformed_values_are_left_empty_and_long_identifiers_kept():
    source = drafts.source(
        patient_id="x" * 80,
        accession_number="y" * 20,
        patient_birth_date="1951.02.03",
        patient_sex="male",
        study_date="20260231",
        study_time="25:99",
        study_description="z" * 80,
        patient_name="a\\b",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about the lengths
        result = read(enhanced_sr(drafts.draft(source=source)))
        assert result.PatientID == "x" * 80
        assert result.AccessionNumber == "y" * 20
    assert not result.PatientBirthDate
    assert not result.PatientSex
    assert not result.StudyDate
    assert not result.StudyTime
    assert not result.PatientName
    assert result.StudyDescription == "z" * 64


@pytest.mark.parametrize("make", FILED)
def test_a_picture_without_identity_is_filed_nowhere(make):
    with pytest.raises(UnsupportedRadiograph) as caught:
        make(drafts.draft(source=None))
    assert caught.value.reason == "no-identity"


def test_no_probabilities_no_findings():
    with pytest.raises(NotAcceptable) as caught:
        findings_sr(drafts.draft(observations=()))
    assert caught.value.reason == "no-observations"


def test_what_cannot_be_made_is_known_beforehand():
    nameless = drafts.source(patient_id="")
    for output in (Output.ENHANCED_SR, Output.SECONDARY_CAPTURE, Output.HL7):
        with pytest.raises(UnsupportedRadiograph):
            check_possible(output, None, observing=True)
    with pytest.raises(UnsupportedRadiograph):
        check_possible(Output.HL7, nameless, observing=True)
    with pytest.raises(NotAcceptable):
        check_possible(Output.COMPREHENSIVE_3D_SR, drafts.source(), observing=False)
    check_possible(Output.ENHANCED_SR, nameless, observing=False)
    check_possible(Output.FHIR, None, observing=False)


def test_control_characters_go():
    data = render(drafts.draft(report=Report("The\x07 heart.\nLarge.", "")), Output.ENHANCED_SR)
    assert "The heart.\nLarge." in texts(read(data))


def test_nothing_of_a_patient_reaches_logs_or_warnings(caplog, capfd):
    source = drafts.source(
        patient_name="CANARY^NAME^^^^^^", patient_id="CANARY-ID", study_id="CANARY"
    )
    with caplog.at_level(logging.DEBUG):
        for output in (*Output,):
            render(drafts.draft(source=source), output)
    assert "CANARY" not in caplog.text
    assert source.sop_instance_uid not in caplog.text
    out, err = capfd.readouterr()
    assert "CANARY" not in out + err


@pytest.mark.skipif(
    bool(dicom_judges.missing_programs()),
    reason=f"not installed: {', '.join(dicom_judges.missing_programs())}",
)
def test_validators_find_nothing():
    bad = [
        (kind, language, complaints)
        for kind, language, data in dicom_judges.made(44, seed=1)
        if data and (complaints := dicom_judges.judge(data, is_report=kind.endswith("sr")))
    ]
    assert bad == []
