"""Findings that are asked for: codes, questions as they were trained, mentions in a text."""

import pytest

from llmcxr_models.errors import InvalidCheckpoint
from llmcxr_models.mentions import mentions
from llmcxr_models.observations import OBSERVABLE_FINDINGS, observable_findings


def test_names_questions_and_codes_are_unique():
    found = OBSERVABLE_FINDINGS.values()
    for key in ("name", "question", "code"):
        assert len({getattr(finding, key) for finding in found}) == len(OBSERVABLE_FINDINGS)
    assert all(len(finding.code.value) <= 16 for finding in found)  # DICOM's SH


def test_findings_come_in_the_order_of_the_manifest():
    names = ("pleural effusion", "cardiomegaly")
    assert tuple(f.name for f in observable_findings(names)) == names


def test_an_unknown_finding_is_refused():
    with pytest.raises(InvalidCheckpoint):
        observable_findings(("cardiomegaly", "dragons"))


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("The heart is enlarged.", "cardiomegaly", True),
        ("The heart is normal in size.", "cardiomegaly", False),
        ("Possible small left pleural effusion.", "pleural effusion", None),
        ("No pleural effusion.", "pleural effusion", False),
        ("Consolidation of the right lower lobe.", "lung opacity", True),
        ("Clear lungs.", "normal", True),
        ("Clear lungs.", "atelectasis", False),
        ("  ", "cardiomegaly", None),
    ],
)
def test_mentions(text, name, expected):
    assert mentions(text)[name] is expected


def test_a_granuloma_cannot_be_told_from_the_text():
    assert mentions("Calcified granuloma.").get("calcified granuloma") is None
