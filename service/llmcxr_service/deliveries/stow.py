"""STOW-RS (PS3.18, 10.5) and the question afterwards by QIDO-RS (10.6): is it there?"""

from __future__ import annotations

import io
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydicom import dcmread

from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.deliveries.destinations import Destination, StowDestination
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.sending import (
    Parcel,
    exchange,
    http_client,
    refuse_status,
)

_JSON = "application/dicom+json"
_FAILED, _REFERENCED = "00081198", "00081199"
_FAILURE_REASON, _INSTANCE = "00081197", "00081155"

# PS3.18 table I.2-2 and PS3.7 annex C.
_DUPLICATE = 0x0111
_PASSING = {0x0110: Reason.SERVER_ERROR, 0x0124: Reason.UNAUTHORIZED}
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


@dataclass(frozen=True)
class Identity:
    """Of one object that is sent: what a question for it has to name."""

    study: str = field(repr=False)
    instance: str = field(repr=False)
    sop_class: str
    transfer_syntax: str


def identity(data: bytes) -> Identity:
    """Read it from our own DICOM file."""
    with quiet_libraries():
        dataset = dcmread(
            io.BytesIO(data), specific_tags=["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"]
        )
    return Identity(
        str(dataset.StudyInstanceUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SOPClassUID),
        str(dataset.file_meta.TransferSyntaxUID),
    )


def send_stow(destination: Destination, parcels: tuple[Parcel, ...], *, again: bool) -> None:
    """Store objects by STOW-RS; where `verify` is set, ask for each of them afterwards.

    Raises:
        SendFailed: not all of them are known to be stored.
    """
    assert isinstance(destination, StowDestination)
    base = str(destination.url).rstrip("/")
    identities = [identity(parcel.data) for parcel in parcels]
    with http_client(
        destination.credentials, destination.tls, destination.timeout_seconds
    ) as client:
        if again and destination.verify and all(is_stored(client, base, i) for i in identities):
            return
        _store(client, base, parcels)
        if destination.verify:
            verify_stored(client, base, identities)


def verify_stored(client: httpx.Client, base: str, identities: list[Identity]) -> None:
    """Ask for each object.

    Raises:
        SendFailed: one is not there, or the question was not answered.
    """
    if not all(is_stored(client, base, identity) for identity in identities):
        raise SendFailed("The archive does not know it afterwards.", Reason.NOT_STORED)


def is_stored(client: httpx.Client, base: str, wanted: Identity) -> bool:
    """QIDO-RS for one instance in its study.

    Raises:
        SendFailed: the question was not answered.
    """
    response = exchange(
        lambda: client.get(
            f"{base}/studies/{wanted.study}/instances",
            params={"SOPInstanceUID": wanted.instance},
            headers={"Accept": _JSON},
        )
    )
    # 404: some archives say so where a study is not known (yet).
    if response.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
        return False
    if response.status_code != httpx.codes.OK:
        raise refuse_status(response)
    try:
        found = response.json()
        return any(_first(entry, "00080018") == wanted.instance for entry in found)
    except (ValueError, AttributeError, TypeError):
        raise SendFailed("The archive's answer is no DICOM JSON.", Reason.PROTOCOL) from None


def _store(client: httpx.Client, base: str, parcels: tuple[Parcel, ...]) -> None:
    boundary = secrets.token_hex(16)
    parts = b"".join(
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (boundary.encode(), parcel.data)
        for parcel in parcels
    )
    content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    response = exchange(
        lambda: client.post(
            f"{base}/studies",
            content=parts + b"--%s--\r\n" % boundary.encode(),
            headers={"Content-Type": content_type, "Accept": _JSON},
        )
    )
    if response.status_code not in (
        httpx.codes.OK,
        httpx.codes.ACCEPTED,
        httpx.codes.CONFLICT,
    ):
        raise refuse_status(response)
    _read_answer(response)


def _read_answer(response: httpx.Response) -> None:
    """The response module (PS3.18, I.2): which instances failed, and why.

    Raises:
        SendFailed: one did, and not because it is there already.
    """
    try:
        answer = json.loads(response.content) if response.content else {}
        failed = answer.get(_FAILED, {}).get("Value", [])
        reasons = [int(_first(item, _FAILURE_REASON) or 0) for item in failed]
    except (ValueError, AttributeError, TypeError):
        # A conforming success needs no body that we understand; a conflict does.
        if response.status_code == httpx.codes.OK:
            return
        raise SendFailed("The archive's answer is no DICOM JSON.", Reason.PROTOCOL) from None
    for reason in reasons:
        if reason == _DUPLICATE:
            continue
        if reason in _OUT_OF_RESOURCES:
            raise SendFailed("The archive has no room.", Reason.OVERLOADED)
        if reason in _PASSING:
            raise SendFailed("The archive could not store it.", _PASSING[reason])
        raise SendFailed("The archive refused it.", Reason.REFUSED)
    if response.status_code == httpx.codes.CONFLICT and not reasons:
        raise SendFailed("The archive refused it.", Reason.REFUSED)


def _first(dataset: dict[str, Any], tag: str) -> Any:  # noqa: ANN401 - DICOM JSON's values
    values = dataset.get(tag, {}).get("Value") or [None]
    return values[0]
