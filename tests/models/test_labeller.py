"""Sentences of the labeller: mention, negation, uncertainty, and their reach."""

from __future__ import annotations

import pytest

from llmcxr_models.finding_mentions import FINDINGS
from llmcxr_models.labeller import Mention, label, positives

P, U, N = Mention.POSITIVE, Mention.UNCERTAIN, Mention.NEGATIVE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The heart is enlarged.", {"Cardiomegaly": P}),
        ("Enlarged cardiac silhouette.", {"Cardiomegaly": P}),
        ("Heart size is mildly enlarged.", {"Cardiomegaly": P}),
        ("The heart is not enlarged.", {"Cardiomegaly": N}),
        ("Heart size is normal.", {"Cardiomegaly": N}),
        ("Heart size is at the upper limit of normal.", {"Cardiomegaly": U}),
        ("Borderline cardiomegaly.", {"Cardiomegaly": U}),
        ("No pneumothorax or pleural effusion.", {"Pneumothorax": N, "Pleural Effusion": N}),
        (
            "No focal consolidation, pneumothorax, or large pleural effusion.",
            {"Consolidation": N, "Pneumothorax": N, "Pleural Effusion": N},
        ),
        ("No acute disease. Small left effusion.", {"Pleural Effusion": P}),
        ("Blunting of the left costophrenic angle.", {"Pleural Effusion": P}),
        ("A pleural effusion cannot be excluded.", {"Pleural Effusion": U}),
        ("Pneumothorax is not seen.", {"Pneumothorax": N}),
        ("No change in the moderate left pneumothorax.", {"Pneumothorax": P}),
        ("The pneumothorax has resolved.", {"Pneumothorax": N}),
        ("Interval resolution of airspace disease.", {"Lung Opacity": N}),
        (
            "Cardiomegaly without pulmonary edema.",
            {"Cardiomegaly": P, "Edema": N},
        ),
        (
            "Airspace disease may reflect atelectasis or pneumonia.",
            {"Lung Opacity": P, "Atelectasis": U, "Pneumonia": U},
        ),
        (
            "No focal opacity to suggest a pneumonia.",
            {"Lung Opacity": N, "Pneumonia": N},
        ),
        ("The lungs are clear.", {"Lung Opacity": N, "Consolidation": N}),
        (
            "No effusion but there is a small pneumothorax.",
            {"Pleural Effusion": N, "Pneumothorax": P},
        ),
        ("1.5 cm nodule in the left midlung.", {"Lung Lesion": P}),
        ("No suspicious nodules or masses.", {"Lung Lesion": N}),
        ("Healed rib fractures.", {"Fracture": P}),
        ("Left-sided PICC line in place.", {"Support Devices": P}),
        ("Findings: Clear lungs. Impression: Mild edema.", {"Edema": P}),
    ],
)
def test_sentences(text: str, expected: dict[str, Mention]) -> None:
    found = label(text)
    assert {finding: found[finding] for finding in expected} == expected


def test_the_strongest_statement_of_a_report_wins() -> None:
    assert label("No effusion on the right. Large effusion on the left.")["Pleural Effusion"] is P


def test_no_finding_is_what_is_left_when_nothing_is_affirmed_or_doubted() -> None:
    assert "No Finding" in positives("The lungs are clear. No pneumothorax.")
    assert "No Finding" in positives("Sternotomy wires are intact.")
    assert "No Finding" not in positives("Possible pneumonia.")
    assert positives("") == frozenset()


def test_both_policies_for_uncertain_findings() -> None:
    text = "Possible pneumonia."
    assert "Pneumonia" not in positives(text)
    assert "Pneumonia" in positives(text, uncertain_is_positive=True)


def test_every_observation_is_answered() -> None:
    assert tuple(label("Normal chest.")) == FINDINGS
    assert len(FINDINGS) == 14
