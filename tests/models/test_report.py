"""Report text there and back; nothing that the model wrote is lost."""

from __future__ import annotations

import pytest

from llmcxr_models.report import Report


@pytest.mark.parametrize(
    "report",
    [
        Report("Clear lungs.", "Normal chest."),
        Report("Clear lungs.", ""),
        Report("", "Normal chest."),
        Report("", ""),
    ],
)
def test_round_trip(report: Report) -> None:
    assert Report.parse(report.text) == report


def test_text() -> None:
    assert Report("A.", "B.").text == "Findings: A. Impression: B."
    assert Report("", "B.").text == "Impression: B."


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("No sections at all.", "No sections at all.", ""),
        ("Before. Findings: A. Impression: B.", "Before. A.", "B."),
        ("FINDINGS :A. impression:\nB.", "A.", "B."),
        ("Impression: B. Findings: A.", "A.", "B."),
        ("Findings: A. Impression: B. Findings: C. Impression: D.", "A. C.", "B. D."),
        ("  Findings:   Impression: B. ", "", "B."),
        ("Findings: the impression of a mass.", "the impression of a mass.", ""),
        ("", "", ""),
    ],
)
def test_parse(text: str, findings: str, impression: str) -> None:
    assert Report.parse(text) == Report(findings, impression)


def test_is_empty() -> None:
    assert Report().is_empty
    assert not Report("A.").is_empty
    assert not Report("", "B.").is_empty
