"""What a classifier is taught of a report: affirmed, left open, or not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.conftest import write_lines, write_record

from llmcxr_models.finding_mentions import FINDINGS, MENTIONS
from llmcxr_training.data import DataError, read_manifest
from llmcxr_training.targets import (
    ABSENT,
    HEADINGS,
    PRESENT,
    UNKNOWN,
    target_table,
    targets,
)


def same(found: float, expected: float) -> bool:
    return found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize(
    ("text", "terms", "finding", "expected"),
    [
        ("The heart is enlarged.", (), "Cardiomegaly", PRESENT),
        ("The heart is normal.", (), "Cardiomegaly", ABSENT),
        ("No change.", (), "Cardiomegaly", ABSENT),
        ("The heart is normal.", ("cardiomegaly/mild",), "Cardiomegaly", PRESENT),
        ("Heart size at the upper limit of normal.", (), "Cardiomegaly", UNKNOWN),
        ("The heart is large.", ("cardiomegaly/borderline",), "Cardiomegaly", PRESENT),
        ("Lungs are clear.", ("cardiomegaly/borderline",), "Cardiomegaly", UNKNOWN),
        (
            "Borderline heart.",
            ("cardiomegaly/borderline", "cardiomegaly"),
            "Cardiomegaly",
            PRESENT,
        ),
        ("XXXX opacity in the left base.", (), "Lung Opacity", PRESENT),
        ("XXXX in the left base.", ("infiltrate/lung/base/left",), "Lung Opacity", PRESENT),
        ("Possible effusion.", (), "Pleural Effusion", UNKNOWN),
        ("Possible effusion.", ("pleural effusion/left",), "Pleural Effusion", PRESENT),
        ("Left XXXX in place.", ("catheters, indwelling",), "Support Devices", PRESENT),
        ("XXXX sternotomy XXXX appear intact.", (), "Support Devices", PRESENT),
        ("No sternotomy.", (), "Support Devices", ABSENT),
        ("", ("cardiomegaly",), "Pleural Effusion", ABSENT),
        ("", (), "Pleural Effusion", UNKNOWN),
        ("A report.", ("edema",), "Edema", PRESENT),
    ],
)
def test_the_rule(text: str, terms: tuple[str, ...], finding: str, expected: float) -> None:
    assert same(targets(text, terms)[finding], expected)


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("The lungs are clear.", ("normal",), PRESENT),
        ("Degenerative changes of the spine. A pacemaker.", (), PRESENT),
        ("Cardiomegaly.", (), ABSENT),
        ("Clear lungs.", ("pleural effusion",), ABSENT),
        ("Possible pneumonia.", (), UNKNOWN),
        ("Possible pneumonia. Small effusion.", (), ABSENT),
        ("", (), UNKNOWN),
    ],
)
def test_no_finding_is_the_absence_of_all(
    text: str, terms: tuple[str, ...], expected: float
) -> None:
    assert same(targets(text, terms)["No Finding"], expected)


def test_headings_are_of_findings() -> None:
    assert set(HEADINGS) <= set(MENTIONS)
    assert all(term == term.lower() for terms in HEADINGS.values() for term in terms)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    changes: list[dict[str, Any]] = [
        {"findings": "XXXX cardiomegaly. Clear lungs.", "impression": "Stable."},
        {"findings": "", "impression": "", "labels": {"mesh_major": ["Pleural Effusion/left"]}},
        {"findings": "", "impression": "", "labels": None},
    ]
    records = [write_record(tmp_path, n, **change) for n, change in enumerate(changes)]
    write_lines(tmp_path / "m.jsonl", records)
    return tmp_path / "m.jsonl"


def test_the_raw_text_counts_not_the_cleaned_one(manifest: Path) -> None:
    studies = read_manifest(manifest)
    assert "cardiomegaly" not in studies[0].report.text
    findings = ("Cardiomegaly", "Pleural Effusion")
    table = target_table(studies, findings)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, [[1, 0], [0, 1], [np.nan, np.nan]])
    assert target_table([], findings).shape == (0, 2)
    assert target_table(studies, FINDINGS).shape == (3, 14)
    with pytest.raises(DataError, match="Cariomegaly"):
        target_table(studies, ("Cariomegaly",))
