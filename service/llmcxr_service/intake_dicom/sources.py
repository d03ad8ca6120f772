"""Named archives that instances may be pulled from: a TOML file. Callers give a name, never a URL.

[[sources]]
name = "pacs"
url = "https://pacs.example.org/dicom-web"
credentials = { username = "llmcxr", password_file = "/run/secrets/pacs" }
tls = { ca_file = "/etc/llmcxr/hospital-ca.pem" }
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AnyHttpUrl, Field, model_validator

from llmcxr_service.deliveries.destinations import Credentials, Tls, can_use_files
from llmcxr_service.errors import SourcesError
from llmcxr_service.operator_file import Name, Table, read_operator_file


class Source(Table):
    """A DICOMweb archive.

    Attributes:
        name: what callers call it.
        url: base of its WADO-RS service: what stands before `/studies`.
        timeout_seconds: of a whole retrieval.
        credentials: who we are.
        tls: of the connection.
    """

    name: Name
    url: AnyHttpUrl
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    credentials: Credentials = Credentials()
    tls: Tls | None = None


class Sources(Table):
    """The whole file."""

    sources: tuple[Source, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Sources:
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("names must be distinct")
        return self


def load_sources(path: Path) -> Sources:
    """Read and check the file, and that every file it names can be read.

    Raises:
        SourcesError: something in it cannot be used.
    """
    sources = read_operator_file(path, Sources, "archives", SourcesError)
    for source in sources.sources:
        if not can_use_files(source.tls, source.credentials):
            raise SourcesError(f"Archive {source.name}: a file that it names cannot be used.")
    return sources
