"""Named archives that instances may be pulled from: a TOML file. Callers give a name, never a URL.

[[sources]]
name = "pacs"
url = "https://pacs.example.org/dicom-web"
credentials = { username = "llmcxr", password_file = "/run/secrets/pacs" }
tls = { ca_file = "/etc/llmcxr/hospital-ca.pem" }
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmcxr_service.deliveries.destinations import Credentials, Name, Tls, authorization
from llmcxr_service.errors import SourcesError
from llmcxr_service.wrong_values import wrong_values


class Source(BaseModel):
    """A DICOMweb archive.

    Attributes:
        name: what callers call it.
        url: base of its WADO-RS service: what stands before `/studies`.
        timeout_seconds: of a whole retrieval.
        credentials: who we are.
        tls: of the connection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    url: AnyHttpUrl
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    credentials: Credentials = Credentials()
    tls: Tls | None = None


class Sources(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    try:
        sources = Sources.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise SourcesError("The file of archives is missing or no TOML.") from None
    except ValidationError as error:
        raise SourcesError(f"Wrong archives. {wrong_values(error)}.") from None
    for source in sources.sources:
        try:
            (source.tls or Tls()).context()
            authorization(source.credentials)
        except (OSError, ValueError):
            raise SourcesError(
                f"Archive {source.name}: a file that it names cannot be used."
            ) from None
    return sources
