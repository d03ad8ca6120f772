"""Readers and their ratings in SQLite: written at once, never overwritten.

Every change is a row of its own; the last one counts. Knows nothing of HTTP or of the truth.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmcxr_training.reader_study.answers import ANSWER, ImageAnswer, ReportAnswer
from llmcxr_training.reader_study.study import StudyError

LONGEST_NAME = 64

_TABLES = """
CREATE TABLE IF NOT EXISTS study (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS reader (name TEXT PRIMARY KEY, tab TEXT);
CREATE TABLE IF NOT EXISTS rating (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    reader TEXT NOT NULL REFERENCES reader (name),
    case_id TEXT NOT NULL,
    answer TEXT NOT NULL,
    final INTEGER NOT NULL,
    seconds REAL NOT NULL,
    saved_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS rating_of ON rating (reader, case_id);
"""
_LATEST = """
SELECT reader, case_id, answer, final, seconds, max(revision) AS revision FROM rating
GROUP BY reader, case_id ORDER BY revision
"""


class UnknownReader(StudyError):
    """Nobody of that name takes part."""


class TakenOver(StudyError):
    """The reader went on in another tab, or never began in this one."""


class ChangedElsewhere(StudyError):
    """The case has an answer that this tab has not seen."""


class NotSaved(StudyError):
    """The ratings' file cannot be written now; what was saved before is safe."""


@dataclass(frozen=True)
class Rating:
    """What a reader last said of a case.

    Attributes:
        revision: grows with every change of any rating; names this one.
        final: confirmed; else the reader was still at it.
        seconds: that the case was before the reader's eyes.
    """

    reader: str
    case_id: str
    answer: ImageAnswer | ReportAnswer
    final: bool
    seconds: float
    revision: int


class RatingStore:
    """`ratings.sqlite` of one study; for many threads.

    Args:
        path: made where it is missing.
        study_digest: of the study that the ratings are about.

    Raises:
        StudyError: the file is no SQLite file, or belongs to another study.
    """

    def __init__(self, path: Path, study_digest: str) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            # A rating that was acknowledged outlives a power cut.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(_TABLES)
            with self._db:
                self._db.execute(
                    "INSERT INTO study SELECT ? WHERE NOT EXISTS (SELECT 1 FROM study)",
                    (study_digest,),
                )
            belongs_to = self._db.execute("SELECT digest FROM study").fetchone()["digest"]
        except sqlite3.Error as error:
            raise StudyError(f"{path.name} cannot be used: it is damaged or locked") from error
        if belongs_to != study_digest:
            raise StudyError(f"{path.name} holds the ratings of another study")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add_readers(self, names: list[str]) -> None:
        """Let these take part; who takes part already stays.

        Raises:
            StudyError: an empty name, or one that is too long or cannot be shown.
        """
        for name in names:
            if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
                raise StudyError(f"a reader's name has 1 to {LONGEST_NAME} printable characters")
        with self._writing() as db:
            rows = [(name.strip(),) for name in names]
            db.executemany("INSERT OR IGNORE INTO reader (name) VALUES (?)", rows)

    def readers(self) -> list[str]:
        """Who takes part, in the order in which they were added."""
        with self._lock:
            return [
                row["name"] for row in self._db.execute("SELECT name FROM reader ORDER BY rowid")
            ]

    def begin(self, reader: str) -> str:
        """Open the study in a tab; an earlier tab of this reader is put aside.

        Returns:
            What the tab shows from now on; only its digest is kept.

        Raises:
            UnknownReader: nobody of that name takes part.
        """
        token = secrets.token_urlsafe(24)
        with self._writing() as db:
            changed = db.execute(
                "UPDATE reader SET tab = ? WHERE name = ?", (_digest(token), reader.strip())
            )
        if not changed.rowcount:
            raise UnknownReader("nobody of that name takes part in this study")
        return token

    def reader_of(self, token: str) -> str:
        """Who works in a tab.

        Raises:
            TakenOver: nobody does any more.
        """
        with self._lock:
            row = self._db.execute(
                "SELECT name FROM reader WHERE tab = ?", (_digest(token),)
            ).fetchone()
        if row is None:
            raise TakenOver("the study was opened elsewhere, and goes on there")
        return str(row["name"])

    def save(
        self,
        token: str,
        case_id: str,
        answer: ImageAnswer | ReportAnswer,
        *,
        final: bool,
        seconds: float,
        seen: int,
    ) -> int:
        """Keep an answer; returns its revision.

        Args:
            token: of the tab.
            case_id: the case.
            answer: to keep.
            final: whether the reader is done with it.
            seconds: that they looked at it.
            seen: revision of this case's rating that the tab knows; 0 for none.

        Raises:
            TakenOver: the reader went on in another tab.
            ChangedElsewhere: the case has a newer rating.
            NotSaved: the file cannot be written.
        """
        reader = self.reader_of(token)
        with self._writing() as db:
            newest = db.execute(
                "SELECT max(revision) AS revision FROM rating WHERE reader = ? AND case_id = ?",
                (reader, case_id),
            ).fetchone()["revision"]
            if (newest or 0) != seen:
                raise ChangedElsewhere("the case was answered in another tab")
            content = answer.model_dump_json()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            inserted = db.execute(
                "INSERT INTO rating (reader, case_id, answer, final, seconds, saved_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (reader, case_id, content, final, seconds, now),
            )
        return int(inserted.lastrowid or 0)

    def latest(self, reader: str | None = None) -> list[Rating]:
        """What counts: the last rating of each case, of one reader or of all.

        Raises:
            StudyError: a rating cannot be read.
        """
        with self._lock:
            rows = self._db.execute(_LATEST).fetchall()
        try:
            return [
                Rating(
                    row["reader"],
                    row["case_id"],
                    ANSWER.validate_json(row["answer"]),
                    bool(row["final"]),
                    float(row["seconds"]),
                    int(row["revision"]),
                )
                for row in rows
                if reader is None or row["reader"] == reader
            ]
        except ValueError as error:
            raise StudyError("a rating is damaged, or out of range") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
        except sqlite3.Error as error:
            raise NotSaved(
                "the rating could not be written; nothing was lost, try again"
            ) from error


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
