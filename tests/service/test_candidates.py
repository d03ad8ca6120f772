"""Which draft speaks for several, and how far they agree."""

import pytest

from llmcxr_service.candidates import agreement_of, most_agreed

CARDIOMEGALY = "Findings: The heart is enlarged. Impression: Cardiomegaly."
SAME_IN_OTHER_WORDS = "Findings: Enlarged heart. Impression: Cardiomegaly."
EFFUSION = "Findings: Small left pleural effusion. Impression: Pleural effusion."


def test_the_same_twice_agrees():
    agreement = agreement_of([CARDIOMEGALY, CARDIOMEGALY])
    assert (agreement.findings, agreement.text) == (1.0, 1.0)
    assert agreement.affirmed["Cardiomegaly"] == 1.0
    assert agreement.disputed == ()


def test_other_findings_do_not():
    agreement = agreement_of([CARDIOMEGALY, EFFUSION])
    assert agreement.findings == 0.0
    assert 0.0 < agreement.text < 0.5
    assert {"Cardiomegaly", "Pleural Effusion"} <= set(agreement.disputed)


def test_shares():
    agreement = agreement_of([CARDIOMEGALY, SAME_IN_OTHER_WORDS, EFFUSION, EFFUSION])
    assert agreement.affirmed["Cardiomegaly"] == 0.5
    assert agreement.findings == pytest.approx(2 / 6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_odd_one_out_does_not_speak(order):
    texts = [(CARDIOMEGALY, SAME_IN_OTHER_WORDS, EFFUSION)[i] for i in order]
    assert texts[most_agreed(texts)] != EFFUSION


def test_empty_drafts_agree():
    agreement = agreement_of(["", ""])
    assert (agreement.findings, agreement.text, agreement.affirmed) == (1.0, 1.0, {})
    assert most_agreed(["", ""]) == 0
