"""MIMIC-CXR-JPG's official layout, on a synthetic tree with the real file names and columns."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from PIL import Image

from llmcxr_training.data import DataError
from llmcxr_training.datasets import MimicData
from llmcxr_training.mimic import read_mimic
from llmcxr_training.report_sections import parse_sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough.  // ?pneumonia

 COMPARISON:  ___

 FINDINGS:

 There is no focal consolidation, pleural effusion or
 pneumothorax.  Compared to ___, no change.

 IMPRESSION:

 No acute cardiopulmonary process.
"""
# dicom_id, study_id, subject_id, split, view
ROWS = [
    ("02aa804e-bde0afdd", "50414267", "10000032", "train", "PA"),
    ("174413ec-4ec4c1f7", "50414267", "10000032", "train", "LATERAL"),
    ("2a2277a9-b0ded155", "53189527", "10000935", "validate", "AP"),
    ("e084de3b-be89b11e", "53911762", "11000566", "test", ""),
]


def write(path: Path, lines: list[str], *, packed: bool = True) -> None:
    text = "\n".join(lines) + "\n"
    if packed:
        with gzip.open(f"{path}.csv.gz", "wt") as file:
            file.write(text)
    else:
        Path(f"{path}.csv").write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    images, reports = tmp_path / "jpg", tmp_path / "reports"
    images.mkdir()
    prefix = images / "mimic-cxr-2.0.0"
    write(
        Path(f"{prefix}-split"),
        ["dicom_id,study_id,subject_id,split"] + [",".join(row[:4]) for row in ROWS],
    )
    write(
        Path(f"{prefix}-metadata"),
        [
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
            "StudyDate,StudyTime"
        ]
        + [f"{d},{p},{s},CHEST,{v},3056,2544,21800506,93505.5" for d, s, p, _, v in ROWS],
    )
    for labeller in ("chexpert", "negbio"):
        write(
            Path(f"{prefix}-{labeller}"),
            [
                "subject_id,study_id,Atelectasis,Cardiomegaly,Edema,No Finding",
                "10000032,50414267,,,-1.0,1.0",
                "10000935,53189527,1.0,0.0,,",
            ],
            packed=labeller == "chexpert",
        )
    for dicom_id, study, subject, _, _ in ROWS:
        folder = Path("files") / f"p{subject[:2]}" / f"p{subject}"
        (images / folder / f"s{study}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 48), 90).save(images / folder / f"s{study}" / f"{dicom_id}.jpg")
        (reports / folder).mkdir(parents=True, exist_ok=True)
        (reports / folder / f"s{study}.txt").write_text(REPORT)
    return images, reports


def test_views_splits_reports_and_labels(tree: tuple[Path, Path]) -> None:
    studies = {study.id: study for study in read_mimic(*tree)}
    assert set(studies) == {row[0] for row in ROWS[:3]}  # the last has no usable view
    first = studies[ROWS[0][0]]
    assert (first.view, first.split, first.patient_id) == ("PA", "train", "10000032")
    assert studies[ROWS[1][0]].view == "lateral"
    assert studies[ROWS[2][0]].split == "val"
    assert first.labels == ("edema/questionable", "no finding")
    assert (first.study_id, first.taken) == ("50414267", "21800506 093505.5")
    assert "Compared to ___, no change." in first.raw_text
    assert studies[ROWS[2][0]].labels == ("atelectasis",)
    assert first.report.findings == (
        "There is no focal consolidation, pleural effusion or pneumothorax."
    )
    assert first.report.impression == "No acute cardiopulmonary process."


def test_the_other_labeller(tree: tuple[Path, Path]) -> None:
    studies = read_mimic(*tree, labeller="negbio")
    assert {study.labels for study in studies} == {
        ("edema/questionable", "no finding"),
        ("atelectasis",),
    }


def test_as_a_data_set(tree: tuple[Path, Path]) -> None:
    data = MimicData(images=tree[0], reports=tree[1])
    assert [study.id for study in data.studies()] == [row[0] for row in ROWS[:3]]
    assert [study.id for study in data.studies(("val",))] == [ROWS[2][0]]
    with pytest.raises(DataError, match="splits"):
        data.studies(("test",))


def test_what_is_missing_is_skipped_and_counted(
    tree: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    images, reports = tree
    next(images.rglob(f"{ROWS[0][0]}.jpg")).unlink()
    next(reports.rglob("s53189527.txt")).unlink()
    assert [study.id for study in read_mimic(images, reports)] == [ROWS[1][0]]
    assert "'no file': 1" in caplog.text
    assert "'no report': 1" in caplog.text


def test_a_patient_in_two_splits_is_refused(tree: tuple[Path, Path]) -> None:
    table = tree[0] / "mimic-cxr-2.0.0-split"
    rows = ["dicom_id,study_id,subject_id,split", "a,1,10000032,train", "b,2,10000032,test"]
    write(table, rows)
    with pytest.raises(DataError, match="two splits"):
        read_mimic(*tree)


def test_a_missing_or_foreign_table_is_named(tree: tuple[Path, Path]) -> None:
    table = tree[0] / "mimic-cxr-2.0.0-metadata.csv.gz"
    table.unlink()
    with pytest.raises(DataError, match=r"metadata\.csv\.gz is missing"):
        read_mimic(*tree)
    write(tree[0] / "mimic-cxr-2.0.0-metadata", ["a,b", "1,2"])
    with pytest.raises(DataError, match="other columns"):
        read_mimic(*tree)


def test_sections() -> None:
    sections = parse_sections(REPORT)
    assert set(sections) == {"examination", "indication", "comparison", "findings", "impression"}
    assert sections["impression"] == "No acute cardiopulmonary process."
    running = "FINDINGS: Clear lungs. IMPRESSION: Normal."
    assert parse_sections(running) == {"findings": "Clear lungs.", "impression": "Normal."}
    assert parse_sections("FINAL REPORT\n Clear lungs.") == {"findings": "Clear lungs."}
    assert parse_sections("  \n") == {}
    assert parse_sections("CONCLUSION: Normal.") == {"impression": "Normal."}
