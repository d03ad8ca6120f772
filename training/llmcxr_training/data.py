"""Records of a JSONL manifest: one radiograph with its report a line, split by patient.

Reads the layout of the Indiana set (fields `id`, `file`, `split`, `view`, `findings`,
`impression`, `patient_id`); knows nothing of models.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmcxr_models.report import Report

_log = logging.getLogger(__name__)

REDACTED = re.compile(r"\bX{2,}\b|_{3,}")
"""What stands where something was removed: XXXX in the Indiana collection, ___ in MIMIC-CXR."""

_LIST_NUMBER = re.compile(r"(?:(?<=\s)|^)\d{1,2}[.)]\s+(?=[A-Z])")


class DataError(Exception):
    """A data set cannot be used as it is."""


@dataclass(frozen=True)
class Study:
    """One radiograph and the report of its study.

    Attributes:
        id: unique in the manifest.
        path: the picture.
        split: `train`, `val`, `test` or `shift`.
        view: `PA`, `AP`, `frontal` or `lateral`.
        patient_id: all records of a patient are in one split.
        report: findings and impression, cleaned.
        indication: why the study was made, cleaned; may be empty.
        labels: what indexers wrote of the report, lower case, for example `cardiomegaly/mild`.
        labelled_by: whose terms those are: MeSH headings of human indexers, or the findings of
            CheXpert's labeller, `/questionable` where it was uncertain.
        study_id: the visit; radiographs of one visit share it.
        taken: date and time of the visit, such that text order is time order; may be empty.
        raw_text: findings and impression as they were written, before cleaning.
    """

    id: str
    path: Path
    split: str
    view: str
    patient_id: str
    report: Report
    indication: str = ""
    labels: tuple[str, ...] = ()
    labelled_by: Literal["mesh", "chexpert"] = "mesh"
    study_id: str = ""
    taken: str = ""
    raw_text: str = ""

    @property
    def is_frontal(self) -> bool:
        """Whether the beam went front to back or back to front."""
        return self.view != "lateral"


def read_manifest(
    manifest: Path, *, collections: Iterable[str] | None = None, splits: Iterable[str] | None = None
) -> list[Study]:
    """Read a manifest; a record whose picture is missing is skipped, counted and logged.

    Raises:
        DataError: no such file, a malformed line, an id that occurs twice, or a patient in two
            splits.
    """
    if not manifest.is_file():
        raise DataError(f"no manifest at {manifest}")
    wanted_collections = set(collections) if collections is not None else None
    wanted_splits = set(splits) if splits is not None else None
    studies: list[Study] = []
    splits_of_patient: dict[str, str] = {}
    missing = 0
    ids: set[str] = set()
    # Not splitlines(): JSON may hold line separators of Unicode, unescaped.
    for number, line in enumerate(manifest.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            study = Study(
                id=record["id"],
                path=manifest.parent / record["file"],
                split=record["split"],
                view=record["view"],
                patient_id=record["patient_id"],
                report=Report(clean(record["findings"]), clean(record["impression"])),
                indication=clean(record.get("indication") or ""),
                labels=tuple(
                    label.lower() for label in (record.get("labels") or {}).get("mesh_major") or ()
                ),
                # Without it, a patient is taken to have come once.
                study_id=str(record.get("study_id") or record["patient_id"]),
                taken=str(record.get("taken") or ""),
                raw_text=f"{record['findings']}\n{record['impression']}",
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{manifest}, line {number}: {type(error).__name__}: {error}"
            ) from error
        if study.id in ids:
            raise DataError(f"{manifest}, line {number}: an id that occurred before")
        ids.add(study.id)
        if splits_of_patient.setdefault(study.patient_id, study.split) != study.split:
            raise DataError(f"{manifest}, line {number}: a patient is in two splits")
        if wanted_collections is not None and record.get("collection") not in wanted_collections:
            continue
        if wanted_splits is not None and study.split not in wanted_splits:
            continue
        if not study.path.is_file():
            missing += 1
            continue
        studies.append(study)
    if missing:
        _log.warning("%s: %d records skipped, their pictures are missing", manifest, missing)
    if not studies:
        raise DataError(f"{manifest}: no record is left after filtering")
    return studies


def clean(text: str) -> str:
    """Drop sentences with a redaction in them, list numbers and stray punctuation.

    A sentence around XXXX teaches a model to write XXXX; the other sentences stand by themselves.
    """
    flat = _LIST_NUMBER.sub("", re.sub(r"\s+", " ", text).strip())
    sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"\s*\.{2,}", ".", flat))
    kept = [s for s in sentences if re.search(r"[A-Za-z]", s) and not REDACTED.search(s)]
    return " ".join(kept).strip()


def describe(studies: Sequence[Study]) -> str:
    """One line for a log: how many of what."""
    counts = Counter((s.split, "frontal" if s.is_frontal else "lateral") for s in studies)
    return ", ".join(f"{split} {view} {n}" for (split, view), n in sorted(counts.items()))
