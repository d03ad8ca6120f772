"""Drafts -> FHIR R4B, read by fhir.resources, and HL7 v2.5.1, read by hl7apy."""

import base64
import json
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B.bundle import Bundle
from hl7apy.parser import parse_message
from tests import drafts

from llmcxr_models.errors import UnsupportedRadiograph
from llmcxr_models.report import Report
from llmcxr_service.outputs.fhir_report import fhir_bundle, fhir_report
from llmcxr_service.outputs.hl7_report import Hl7Parties, hl7_report
from llmcxr_service.outputs.hl7_text import escape, person_name


def resources(draft):
    bundle = json.loads(fhir_report(draft))
    Bundle.model_validate(bundle)
    found = {}
    for entry in bundle["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


@pytest.mark.parametrize("language", drafts.LANGUAGES)
def test_the_bundle_is_valid_and_marked(language):
    draft = drafts.draft(language)
    found = resources(draft)
    assert {kind: len(r) for kind, r in found.items()} == {
        "Device": 1,
        "Observation": len(draft.observations),
        "DiagnosticReport": 1,
        "Provenance": 1,
    }
    for resource in (r for several in found.values() for r in several):
        assert resource["meta"]["security"][0]["code"] == "AIAST"
        assert resource.get("status", "preliminary") == "preliminary"


def test_the_report_names_patient_study_and_words():
    draft = drafts.draft("zh")
    (report,) = resources(draft)["DiagnosticReport"]
    assert report["subject"]["identifier"] == {
        "value": "4711-A",
        "assigner": {"display": "General Hospital"},
    }
    study = f"urn:oid:{draft.source.study_instance_uid}"
    assert report["imagingStudy"][0]["identifier"]["value"] == study
    assert report["basedOn"][0]["identifier"]["value"] == "ACC0815"
    assert report["effectiveDateTime"] == "2026-02-28"
    assert report["conclusion"] == draft.report.impression
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert text.startswith("AI-GENERATED DRAFT")
    assert text.endswith(draft.report.text)
    ElementTree.fromstring(report["text"]["div"])
    assert draft.report.findings in report["text"]["div"]


def test_markup_in_a_report_is_text():
    draft = drafts.draft(report=Report("<script>alert('x') & more</script>", "a < b"))
    (report,) = resources(draft)["DiagnosticReport"]
    root = ElementTree.fromstring(report["text"]["div"])
    assert "".join(root.itertext()).endswith("<script>alert('x') & more</script>a < b")
    assert len(list(root.iter())) == 1 + len(root)


def test_observations_and_device():
    draft = drafts.draft()
    found = resources(draft)
    for resource, observation in zip(found["Observation"], draft.observations, strict=True):
        assert resource["code"]["coding"][0]["code"] == observation.finding.code.value
        quantity = resource["component"][0]["valueQuantity"]
        assert quantity["value"] == pytest.approx(100 * observation.probability, abs=0.05)
        said = [c["valueBoolean"] for c in resource["component"][1:]]
        assert said == ([] if observation.mentioned is None else [observation.mentioned])
    (device,) = found["Device"]
    assert device["serialNumber"] == f"sha256:{drafts.MODEL.digest}"
    assert device["version"][0]["value"] == drafts.MODEL.version
    (provenance,) = found["Provenance"]
    assert "seed 7" in provenance["activity"]["text"]
    source = f"urn:oid:{draft.source.sop_instance_uid}"
    assert provenance["entity"][0]["what"]["identifier"]["value"] == source


def test_references_lead_to_entries_and_ids_to_one_place():
    bundle = fhir_bundle(drafts.draft())
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(bundle["entry"])
    text = json.dumps(bundle)
    references = {part.split('"')[0] for part in text.split('"reference": "')[1:]}
    assert references <= urls
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {
            "method": "PUT",
            "url": f"{resource['resourceType']}/{resource['id']}",
        }
    again = fhir_bundle(drafts.draft(created=drafts.CREATED.replace(hour=1)))
    assert {entry["fullUrl"] for entry in again["entry"]} == urls
    other = fhir_bundle(drafts.draft(source=drafts.source(key="other")))
    assert len({entry["fullUrl"] for entry in other["entry"]} & urls) == 1  # the device


def test_a_picture_without_identity_makes_a_bundle_without_subject():
    found = resources(drafts.draft(source=None, observations=(), report=Report("Clear.", "")))
    (report,) = found["DiagnosticReport"]
    assert not {"subject", "imagingStudy", "basedOn", "result", "conclusion"} & report.keys()
    assert "entity" not in found["Provenance"][0]


def test_all_odd_headers_make_valid_bundles():
    for draft in drafts.varied_drafts(33, seed=3):
        resources(draft)


def message(draft, **parties):
    text = hl7_report(draft, Hl7Parties(**parties)).decode("utf-8")
    assert parse_message(text, find_groups=True).validate()
    return parse_message(text, find_groups=False), text


@pytest.mark.parametrize("language", drafts.LANGUAGES)
def test_the_message_is_valid_and_preliminary(language):
    draft = drafts.draft(language)
    parsed, text = message(draft, receiving_application="RIS", receiving_facility="A|B")
    assert parsed.msh.msh_9.value == "ORU^R01^ORU_R01"
    assert parsed.msh.msh_12.value == "2.5.1"
    assert parsed.msh.msh_18.value == "UNICODE UTF-8"
    assert parsed.msh.msh_5.value == "RIS"
    assert "|RIS|A\\F\\B|" in text
    assert len(parsed.msh.msh_10.value) == 20
    assert parsed.obr.obr_25.value == "P"
    assert parsed.obr.obr_18.value == "ACC0815"
    assert parsed.pid.pid_3.value == "4711-A^^^General Hospital^MR"
    values = {}
    for obx in parsed.obx:
        assert obx.obx_11.value == "P"
        values.setdefault(obx.obx_3.obx_3_1.value, []).append(obx.obx_5.value)
    assert values["113014"] == [draft.source.study_instance_uid]
    assert values["18782-3"] == [escape(draft.report.findings)]
    assert values["19005-8"] == [escape(draft.report.impression)]
    assert values["NOTICE"][0].startswith("AI-GENERATED DRAFT")
    assert drafts.MODEL.digest in values["NOTICE"][1]
    for observation in draft.observations:
        (value,) = values[observation.finding.code.value]
        assert float(value) == pytest.approx(100 * observation.probability, abs=0.05)


def test_escapes():
    assert escape("a|b^c&d~e\\f") == "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f"
    assert escape("one\r\ntwo\rthree\nfour\x0b\x1c") == "one\\.br\\two\\.br\\three\\.br\\four"


def test_nothing_written_can_begin_a_segment():
    report = Report("x\rOBX|1|ST|evil\n\x1c\x0b", "MSH|^~\\&|")
    _, text = message(drafts.draft(report=report))
    names = [line[:3] for line in text.rstrip("\r").split("\r")]
    assert names == ["MSH", "PID", "ORC", "OBR"] + ["OBX"] * (len(names) - 4)
    assert "\n" not in text
    assert "\x1c" not in text


@pytest.mark.parametrize(
    ("dicom", "hl7"),
    [
        ("O'Neill^Mary^Ann^Dr.^PhD", "O'Neill^Mary^Ann^PhD^Dr.^^L^A"),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I"),
        ("Plain", "Plain^^^^^^L^A"),
        ("", ""),
    ],
)
def test_names(dicom, hl7):
    assert person_name(dicom) == hl7


def test_the_same_draft_is_the_same_message_and_other_words_another():
    one, again = hl7_report(drafts.draft()), hl7_report(drafts.draft())
    assert one == again
    other = hl7_report(drafts.draft(report=Report("Other.", "")))
    assert one.split(b"|")[9] != other.split(b"|")[9]


@pytest.mark.parametrize("source", [None, drafts.source(patient_id="")])
def test_a_message_needs_a_patient(source):
    with pytest.raises(UnsupportedRadiograph) as caught:
        hl7_report(drafts.draft(source=source))
    assert caught.value.reason == "no-identity"


def test_all_odd_headers_make_valid_messages():
    for draft in drafts.varied_drafts(33, seed=4):
        if draft.source.patient_id:
            message(draft)
