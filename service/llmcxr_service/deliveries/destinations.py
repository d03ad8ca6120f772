"""Named destinations from a TOML file: where results go, how, and with which credentials.

Secrets are in files of their own, read at every attempt, so that a rotated one needs no restart.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, StringConstraints, model_validator

from llmcxr_service.deliveries.outcome import DestinationsError
from llmcxr_service.operator_file import Name, Table, read_operator_file
from llmcxr_service.receiving import Output

AeTitle = Annotated[str, StringConstraints(pattern=r"^[\x21-\x5b\x5d-\x7e]{1,16}$")]
DRAFT = "draft"
"""The name that stands for making the report itself; no destination may have it."""


class Tls(Table):
    """TLS of a connection to a destination.

    Attributes:
        ca_file: certificates to trust; the system's where absent.
        certificate_file: our own certificate chain, where the other end asks for one.
        key_file: its key.
        server_name: the name in the other end's certificate; the host where absent.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self

    def context(self) -> ssl.SSLContext:
        """A client's context with these files, TLS 1.2 or newer, verifying the other end.

        Raises:
            OSError: a file is missing or no certificate (`ssl.SSLError` is one).
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class Credentials(Table):
    """How we say who we are over HTTP: a bearer token or a name and password, or nothing.

    Attributes:
        token_file: file with a bearer token.
        username: for basic authentication.
        password_file: file with its password.
    """

    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _either(self) -> Credentials:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together")
        if self.token_file is not None and self.username is not None:
            raise ValueError("either a token or a password")
        return self


class _Destination(Table):
    """What all destinations have.

    Attributes:
        name: in ids, logs and metrics; never a host or a patient.
        concurrency: sends at the same time.
        timeout_seconds: of one exchange with the other end.
        give_up_hours: after this long a failed attempt is the last one.
        tls: of the connection.
    """

    name: Name
    concurrency: int = Field(default=2, ge=1, le=64)
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    give_up_hours: float = Field(default=72.0, ge=0)
    tls: Tls | None = None


class StowDestination(_Destination):
    """DICOMweb: STOW-RS to `url`/studies (PS3.18, 10.5), asked back by QIDO-RS where `verify`."""

    kind: Literal["stow"]
    url: AnyHttpUrl
    credentials: Credentials = Credentials()
    verify: bool = True


class StoreDestination(_Destination):
    """DIMSE C-STORE (PS3.4, annex B); asked back by QIDO-RS where `verify_url` is set."""

    kind: Literal["c-store"]
    host: str
    port: int = Field(ge=1, le=65535)
    called_ae: AeTitle
    calling_ae: AeTitle = "LLMCXR"
    verify_url: AnyHttpUrl | None = None
    credentials: Credentials = Credentials()


class FhirDestination(_Destination):
    """FHIR R4B: a DiagnosticReport with its Device and Provenance, as one transaction."""

    kind: Literal["fhir"]
    url: AnyHttpUrl
    credentials: Credentials = Credentials()


class MllpDestination(_Destination):
    """HL7 v2 ORU^R01 over MLLP, enhanced by waiting for the acknowledgement."""

    kind: Literal["mllp"]
    host: str
    port: int = Field(ge=1, le=65535)


Destination = Annotated[
    StowDestination | StoreDestination | FhirDestination | MllpDestination,
    Field(discriminator="kind"),
]


_DICOM = frozenset({Output.ENHANCED_SR, Output.COMPREHENSIVE_3D_SR, Output.SECONDARY_CAPTURE})
_TAKES = {
    "stow": _DICOM,
    "c-store": _DICOM,
    "fhir": frozenset({Output.FHIR}),
    "mllp": frozenset({Output.HL7}),
}


def takes(destination: Destination, output: Output) -> bool:
    """Whether a destination of this kind can take such an output."""
    return output in _TAKES[destination.kind]


class QueueOptions(Table):
    """How the queue behaves.

    Attributes:
        drafts: reports in the making at the same time.
        first_retry_seconds: the pause after the first failure; it doubles from there.
        longest_retry_seconds: and never grows beyond this.
        retention_hours: how long sent objects stay in the spool.
        history_days: how long finished deliveries are listed.
        poll_seconds: how often queues are looked at.
    """

    drafts: int = Field(default=2, ge=1, le=64)
    first_retry_seconds: float = Field(default=2.0, gt=0)
    longest_retry_seconds: float = Field(default=1800.0, gt=0)
    retention_hours: float = Field(default=24.0, gt=0)
    history_days: float = Field(default=30.0, gt=0)
    poll_seconds: float = Field(default=0.5, ge=0.02, le=60)


class Destinations(Table):
    """The whole file.

    Attributes:
        queue: how the queue behaves.
        destinations: by no order.
    """

    queue: QueueOptions = QueueOptions()
    destinations: tuple[Destination, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Destinations:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) != len(names) or DRAFT in names:
            raise ValueError("names must be distinct, and none may be 'draft'")
        return self

    @property
    def by_name(self) -> dict[str, Destination]:
        """Destinations by their names."""
        return {destination.name: destination for destination in self.destinations}


def load_destinations(path: Path) -> Destinations:
    """Read and check the file, and that every file it names can be read.

    Raises:
        DestinationsError: something in it cannot be used.
    """
    destinations = read_operator_file(path, Destinations, "destinations", DestinationsError)
    for destination in destinations.destinations:
        credentials = getattr(destination, "credentials", Credentials())
        if not can_use_files(destination.tls, credentials):
            raise DestinationsError(
                f"Destination {destination.name}: a file that it names cannot be used."
            )
    return destinations


def can_use_files(tls: Tls | None, credentials: Credentials) -> bool:
    """Whether certificates and secrets are in the files that are named for them."""
    try:
        if tls is not None:
            tls.context()
        authorization(credentials)
    except (OSError, ValueError):
        return False
    return True


def authorization(credentials: Credentials) -> tuple[str, str] | str | None:
    """A bearer token, or name and password, as they are in their files now.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is empty or no text.
    """
    if credentials.token_file is not None:
        return _secret(credentials.token_file)
    if credentials.username is not None and credentials.password_file is not None:
        return credentials.username, _secret(credentials.password_file)
    return None


def _secret(path: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    if not text or not text.isprintable():
        raise ValueError("no secret")
    return text
