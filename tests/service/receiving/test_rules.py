"""Rules: which one decides, what is refused in the file, and what the command says of a file."""

from __future__ import annotations

import pytest
from tests.service.receiving.conftest import DESTINATIONS, RULES, instance
from typer.testing import CliRunner

from llmcxr_service.__main__ import app
from llmcxr_service.errors import RulesError
from llmcxr_service.intake_dicom.opening import read_rules
from llmcxr_service.intake_dicom.rules import Facts, Rules, load_rules
from llmcxr_service.receiving import Origin, Output
from llmcxr_service.settings import Settings
from llmcxr_service.source_instance import identify

GENERATE = {"action": "generate", "outputs": ["enhanced-sr"], "destinations": ["pacs"]}


def decide(condition, *, origin=Origin.DIMSE, caller="ROUTER", **attributes):
    rules = Rules.model_validate({"rules": [{"name": "it", **condition, **GENERATE}]})
    decision = rules.decide(Facts(origin, caller, identify(instance(**attributes))))
    assert (decision.rule == "it") == (decision.order is not None)
    return decision.rule == "it"


@pytest.mark.parametrize(
    ("condition", "attributes", "matches"),
    [
        ({}, {}, True),
        ({"modality": ["CR", "DX"]}, {}, True),
        ({"modality": ["cr"]}, {}, False),
        ({"modality": ["dx"]}, {}, True),
        ({"body_part": ["CHEST"]}, {"BodyPartExamined": ""}, False),
        ({"body_part": ["CHEST", "*"]}, {"BodyPartExamined": ""}, True),
        ({"view": ["PA", "AP"]}, {"ViewPosition": "LL"}, False),
        ({"view": ["PA", "AP"]}, {"ViewPosition": "AP"}, True),
        ({"station": ["ROOM?"]}, {"StationName": "Room3"}, True),
        ({"station": ["ROOM?"]}, {"StationName": "ROOM33"}, False),
        ({"study_description": ["*thorax*"]}, {"StudyDescription": "Rö-Thorax pa"}, True),
        ({"study_description": ["*thorax*"]}, {}, False),
        ({"sop_class": ["ComputedRadiographyImageStorage"]}, {}, False),
        ({"sop_class": ["DigitalXRayImageStorageForPresentation"]}, {}, True),
        ({"calling_ae": ["ROUTER"]}, {}, True),
        ({"calling_ae": ["OTHER", "R*2"]}, {}, False),
        ({"origin": ["dimse"]}, {}, True),
        ({"origin": ["stow"]}, {}, False),
        ({"modality": ["DX"], "view": ["LL"]}, {}, False),
    ],
)
def test_conditions(condition, attributes, matches):
    assert decide(condition, SpecificCharacterSet="ISO_IR 192", **attributes) is matches


def test_the_first_match_wins_and_then_the_default():
    ignore = {"name": "laterals", "view": ["LL"], "action": "ignore"}
    everything = {"name": "rest", "modality": ["DX"], **GENERATE}
    rules = Rules.model_validate({"rules": [ignore, everything], "default": GENERATE})

    def rule(**attributes):
        decision = rules.decide(Facts(Origin.STOW, "", identify(instance(**attributes))))
        return decision.rule, decision.order and decision.order.outputs

    assert rule(ViewPosition="LL") == ("laterals", None)
    assert rule() == ("rest", (Output.ENHANCED_SR,))
    assert rule(Modality="CR") == ("default", (Output.ENHANCED_SR,))


def test_without_a_default_the_rest_is_ignored():
    decision = Rules().decide(Facts(Origin.STOW, "", identify(instance())))
    assert (decision.rule, decision.order) == ("default", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules = [", "no TOML"),
        ("[[rules]]\nname = 'a'", "rules.0.action"),
        ("[[rules]]\nname = 'A B'\naction = 'ignore'", "rules.0.name"),
        ("[[rules]]\nname = 'default'\naction = 'ignore'", "none may be 'default'"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\n" * 2, "distinct"),
        ("[[rules]]\nname = 'a'\naction = 'generate'", "needs outputs and destinations"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\noutputs = ['fhir']", "has neither"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\nmodalty = ['CR']", "rules.0.modalty"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\nmodality = 'CR'", "rules.0.modality"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\nmodality = ['']", "rules.0.modality.0"),
        ("[[rules]]\nname = 'a'\naction = 'ignore'\nsop_class = ['CT']", "rules.0.sop_class"),
        ("[default]\naction = 'keep'", "default.action"),
        (
            "[default]\naction = 'generate'\noutputs = ['fhir', 'fhir']\ndestinations = ['a']",
            "named twice",
        ),
    ],
)
def test_mistakes_are_told_by_their_place(tmp_path, text, told):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(RulesError) as error:
        load_rules(tmp_path / "rules.toml")
    assert told in str(error.value)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "destinations.toml").write_text(DESTINATIONS.format(url="http://127.0.0.1:9"))
    return Settings(
        dicom_rules=tmp_path / "rules.toml", destinations=tmp_path / "destinations.toml"
    )


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('["pacs"]', '["ris"]', "no destination ris"),
        ('outputs = ["enhanced-sr"]', 'outputs = ["hl7"]', "pacs can take none"),
        ('outputs = ["enhanced-sr"]', 'outputs = ["enhanced-sr", "fhir"]', "can take fhir"),
    ],
)
def test_rules_and_destinations_fit(settings, before, after, told):
    settings.dicom_rules.write_text(RULES.replace(before, after))
    with pytest.raises(RulesError) as error:
        read_rules(settings)
    assert told in str(error.value)


def test_rules_need_destinations(settings):
    with pytest.raises(RulesError, match="LLMCXR_DESTINATIONS"):
        read_rules(settings.model_copy(update={"destinations": None}))


@pytest.mark.parametrize(
    ("attributes", "options", "told"),
    [
        ({}, ["--calling-ae", "ROUTER"], "Rule router matches: a report would be made"),
        ({}, ["--calling-ae", "X"], "No rule matches: it would be accepted and dropped."),
        ({}, ["--origin", "stow"], "pacs would get enhanced-sr, secondary-capture."),
        ({"BodyPartExamined": "HAND"}, [], "Rule hands matches: it would be accepted and dropped."),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, [], "its SOP class is not received"),
    ],
)
def test_the_command_says_what_would_happen(
    settings, tmp_path, monkeypatch, attributes, options, told
):
    monkeypatch.setenv("LLMCXR_DICOM_RULES", str(settings.dicom_rules))
    monkeypatch.setenv("LLMCXR_DESTINATIONS", str(settings.destinations))
    (tmp_path / "a.dcm").write_bytes(instance(**attributes))
    result = CliRunner().invoke(app, ["dicom-check", str(tmp_path / "a.dcm"), *options])
    assert result.exit_code == 0, result.output
    assert told in result.output


def test_the_command_with_a_mistake(settings, monkeypatch):
    settings.dicom_rules.write_text("[[rules]]")
    monkeypatch.setenv("LLMCXR_DICOM_RULES", str(settings.dicom_rules))
    monkeypatch.setenv("LLMCXR_DESTINATIONS", str(settings.destinations))
    result = CliRunner().invoke(app, ["dicom-check"])
    assert result.exit_code == 1
    assert "rules.0.name" in result.output
