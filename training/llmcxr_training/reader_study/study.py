"""The study folder: what is shown, the key that says what is what, and digests of both.

    study.json       cases without their truth, and the SHA-256 of every other file here
    images/ID.png    every picture of the study; names, sizes and dates say nothing
    key.json         which case is real and which is generated; `serve` does without it
    ratings.sqlite   what readers answered (see `ratings`); not part of what is prepared

A folder that was changed after it was prepared is refused: ratings would mean something else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcxr_models.checkpoint import sha256
from llmcxr_training.data import DataError
from llmcxr_training.run_state import write_json

STUDY_JSON, KEY_JSON, RATINGS, IMAGES = "study.json", "key.json", "ratings.sqlite", "images"
FORMAT_VERSION = 1

Kind = Literal["image", "report"]
_Model = TypeVar("_Model", bound=BaseModel)


class StudyError(DataError):
    """A study folder, its key or its ratings cannot be used."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReportText(_Frozen):
    """A report as it is shown."""

    findings: str = ""
    impression: str = ""


class Case(_Frozen):
    """What a reader sees at once. Nothing here depends on the truth.

    Attributes:
        id: drawn at random.
        kind: a picture to judge, or two reports of a picture to compare.
        part: 0 to 2: cases are shown part by part, so that a repeated one comes late.
        reports: of a `report` case, in the order in which they are shown.
    """

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    kind: Kind
    part: int = Field(ge=0, le=2)
    reports: tuple[ReportText, ReportText] | None = None

    @property
    def image(self) -> str:
        """Its picture, relative to the study folder."""
        return f"{IMAGES}/{self.id}.png"


class Truth(_Frozen):
    """What a case is.

    Attributes:
        study_id: the radiograph that it is made of.
        generated: of an `image` case: whether a model drew it.
        generated_first: of a `report` case: whether a model wrote the first report.
        repeats: the case that this one shows once more; its reports have changed places.
    """

    study_id: str
    generated: bool | None = None
    generated_first: bool | None = None
    repeats: str | None = None


class Key(_Frozen):
    """`key.json`: the truth of each case."""

    cases: dict[str, Truth]


class StudyFile(_Frozen):
    """`study.json`.

    Attributes:
        title: stands on the page.
        cases: in no order.
        files: SHA-256 of every picture and of `key.json`, by path.
        provenance: checkpoint, split, seed and counts; for people, not for readers.
        digest: of everything else here.
    """

    format_version: Literal[1]
    title: str
    cases: tuple[Case, ...] = Field(min_length=1)
    files: dict[str, str]
    provenance: dict[str, Any]
    digest: str

    def own_digest(self) -> str:
        """What `digest` must be."""
        content = self.model_dump(mode="json", exclude={"digest"})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class Study:
    """An opened study, as it was prepared.

    Attributes:
        folder: where it is.
        file: the content of `study.json`.
        cases: by id.
    """

    def __init__(self, folder: Path, file: StudyFile) -> None:
        self.folder = folder
        self.file = file
        self.cases = {case.id: case for case in file.cases}

    @property
    def digest(self) -> str:
        """Names this study: ratings belong to it and to no other."""
        return self.file.digest

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Read a study, and check that nothing was changed.

        Raises:
            StudyError: no study, a missing picture, or one that is not as it was prepared.
        """
        file = _read(folder / STUDY_JSON, StudyFile)
        if file.own_digest() != file.digest:
            raise StudyError(f"{STUDY_JSON} was changed after it was prepared")
        for name, expected in file.files.items():
            # Whoever leads the study may keep the key elsewhere while it runs.
            if name != KEY_JSON:
                _check(folder / name, name, expected)
        if missing := {case.image for case in file.cases} - file.files.keys():
            raise StudyError(f"{STUDY_JSON} names no digest of {min(missing)}")
        return cls(folder, file)

    def open_key(self, path: Path | None = None) -> dict[str, Truth]:
        """The truth of each case.

        Args:
            path: of the key; in the study folder by default.

        Raises:
            StudyError: there is none, or it is not this study's.
        """
        found = path or self.folder / KEY_JSON
        _check(found, KEY_JSON, self.file.files.get(KEY_JSON, ""))
        key = _read(found, Key).cases
        if key.keys() != self.cases.keys():
            raise StudyError(f"{KEY_JSON} does not name the cases of this study")
        return key


def write_study(
    folder: Path, title: str, cases: tuple[Case, ...], key: Key, provenance: dict[str, Any]
) -> Study:
    """Write `key.json` and, last, `study.json`; the pictures are there already."""
    write_json(folder / KEY_JSON, key.model_dump(mode="json"))
    files = {name: sha256(folder / name) for name in (KEY_JSON, *(case.image for case in cases))}
    draft = StudyFile(
        format_version=FORMAT_VERSION,
        title=title,
        cases=cases,
        files=files,
        provenance=provenance,
        digest="",
    )
    file = draft.model_copy(update={"digest": draft.own_digest()})
    write_json(folder / STUDY_JSON, file.model_dump(mode="json"))
    return Study(folder, file)


def _read(path: Path, kind: type[_Model]) -> _Model:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StudyError(f"there is no {path.name} in {path.parent}") from error
    except ValidationError as error:
        raise StudyError(f"{path.name} is damaged, or of another version") from error


def _check(path: Path, name: str, expected: str) -> None:
    if not path.is_file():
        raise StudyError(f"{name} is missing from the study")
    if sha256(path) != expected:
        raise StudyError(f"{name} is not the file that was prepared; prepare a new study")
