"""One radiograph of a run: where it is, as a line of JSON in a shard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from llmcxr_service.schemas import DicomwebInstance


@dataclass(frozen=True)
class BatchItem:
    """Where a radiograph is; either a file or an instance in an archive.

    Attributes:
        number: its place in the run, from 0; the seed follows from it.
        path: of the file.
        archive: name of the archive.
        study: Study Instance UID.
        series: Series Instance UID.
        instance: SOP Instance UID.
        indication: why the study was made; may be empty.
    """

    number: int
    path: str = field(default="", repr=False)
    archive: str = ""
    study: str = field(default="", repr=False)
    series: str = field(default="", repr=False)
    instance: str = field(default="", repr=False)
    indication: str = field(default="", repr=False)

    @property
    def dicomweb(self) -> DicomwebInstance:
        """The same as an archive is asked for it."""
        return DicomwebInstance(
            source=self.archive, study=self.study, series=self.series, instance=self.instance
        )

    def to_line(self) -> str:
        """As a line, without what is empty."""
        given = {name: value for name, value in asdict(self).items() if value != ""}
        return json.dumps(given, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> BatchItem:
        """From such a line."""
        return cls(**json.loads(line))
