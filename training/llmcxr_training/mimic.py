"""MIMIC-CXR-JPG in its official layout -> studies (Johnson et al., arXiv 1901.07042).

<images>/mimic-cxr-2.0.0-split.csv.gz      dicom_id, study_id, subject_id, split
<images>/mimic-cxr-2.0.0-metadata.csv.gz   dicom_id, ..., ViewPosition, ..., StudyDate, StudyTime
<images>/mimic-cxr-2.0.0-chexpert.csv.gz   subject_id, study_id, one column a finding
<images>/mimic-cxr-2.0.0-negbio.csv.gz     the same, by another labeller
<images>/files/p10/p10000032/s50414267/<dicom_id>.jpg
<reports>/files/p10/p10000032/s50414267.txt
"""

from __future__ import annotations

import csv
import gzip
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmcxr_models.report import Report
from llmcxr_training.data import DataError, Study, clean
from llmcxr_training.report_sections import parse_sections

_log = logging.getLogger(__name__)

_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "lateral", "LL": "lateral"}
_POSITIVE, _UNCERTAIN = "1.0", "-1.0"


@dataclass(frozen=True)
class _Text:
    """What a report's file says; shared by the radiographs of its study."""

    report: Report
    indication: str
    raw: str


def read_mimic(
    images: Path, reports: Path, *, labeller: Literal["chexpert", "negbio"] = "chexpert"
) -> list[Study]:
    """Read the whole collection; records that cannot be used are skipped, counted and logged.

    Args:
        images: root of MIMIC-CXR-JPG 2.x.
        reports: root of the report texts (MIMIC-CXR), the directory that holds `files`.
        labeller: whose labels the studies carry.

    Raises:
        DataError: a table is missing or has other columns, or a patient is in two splits.
    """
    taken = {
        row["dicom_id"]: (row["ViewPosition"], f"{row['StudyDate']} {_time(row['StudyTime'])}")
        for row in _rows(images, "metadata")
    }
    labels = {row["study_id"]: _labels(row) for row in _rows(images, labeller)}
    texts: dict[str, _Text | None] = {}
    split_of: dict[str, str] = {}
    studies: list[Study] = []
    skipped: Counter[str] = Counter()
    for row in _rows(images, "split"):
        subject, study_id, split = row["subject_id"], row["study_id"], _SPLITS[row["split"]]
        if split_of.setdefault(subject, split) != split:
            raise DataError("MIMIC-CXR split table: a patient is in two splits")
        folder = Path("files") / f"p{subject[:2]}" / f"p{subject}"
        if study_id not in texts:
            texts[study_id] = _read_text(reports / folder / f"s{study_id}.txt")
        position, time = taken.get(row["dicom_id"], ("", ""))
        text, view = texts[study_id], _VIEWS.get(position)
        path = images / folder / f"s{study_id}" / f"{row['dicom_id']}.jpg"
        if text is None or view is None or not path.is_file():
            skipped[
                "no report" if text is None else "other view" if view is None else "no file"
            ] += 1
            continue
        studies.append(
            Study(
                id=row["dicom_id"],
                path=path,
                split=split,
                view=view,
                patient_id=subject,
                report=text.report,
                indication=text.indication,
                labels=labels.get(study_id, ()),
                labelled_by="chexpert",
                study_id=study_id,
                taken=time,
                raw_text=text.raw,
            )
        )
    if skipped:
        _log.warning("MIMIC-CXR: skipped %s", dict(skipped))
    if not studies:
        raise DataError("MIMIC-CXR: no record can be used")
    return studies


def _rows(images: Path, table: str) -> Iterator[dict[str, str]]:
    """Rows of one official table, compressed or not."""
    columns = {
        "split": {"dicom_id", "study_id", "subject_id", "split"},
        "metadata": {"dicom_id", "ViewPosition", "StudyDate", "StudyTime"},
    }.get(table, {"subject_id", "study_id"})
    plain = images / f"mimic-cxr-2.0.0-{table}.csv"
    packed = plain.with_suffix(".csv.gz")
    if not plain.is_file() and not packed.is_file():
        raise DataError(f"{packed.name} is missing")
    with plain.open(newline="") if plain.is_file() else gzip.open(packed, "rt", newline="") as file:
        reader = csv.DictReader(file)
        if not columns <= set(reader.fieldnames or ()):
            raise DataError(f"{packed.name} has other columns than MIMIC-CXR-JPG's")
        yield from reader


def _time(text: str) -> str:
    """`StudyTime` is a number, 93505.5 for five past half past nine: padded, it sorts as text."""
    hours, _, fraction = text.partition(".")
    return f"{hours.zfill(6)}.{fraction}"


def _labels(row: dict[str, str]) -> tuple[str, ...]:
    names = {_POSITIVE: "{}", _UNCERTAIN: "{}/questionable"}
    return tuple(names[value].format(n.lower()) for n, value in row.items() if value in names)


def _read_text(path: Path) -> _Text | None:
    """A study's text, or None where there is none that can be used."""
    try:
        sections = parse_sections(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    findings, impression = sections.get("findings", ""), sections.get("impression", "")
    report = Report(clean(findings), clean(impression))
    if report.is_empty:
        return None
    return _Text(report, clean(sections.get("indication", "")), f"{findings}\n{impression}")
