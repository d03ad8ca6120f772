"""FHIR R4B over HTTP: resources by PUT with ids of our own, bundles by POST as a transaction.

The ids come from the same derivation as the DICOM UIDs, so a repeated send overwrites what the
first one made (http://hl7.org/fhir/R4B/http.html#upsert).
"""

from __future__ import annotations

import json

import httpx

from llmcxr_service.deliveries.destinations import Destination, FhirDestination
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.sending import Parcel, exchange, http_client, refuse_status

_JSON = "application/fhir+json"
_DONE = (httpx.codes.OK, httpx.codes.CREATED)


def send_fhir(destination: Destination, parcels: tuple[Parcel, ...], *, again: bool) -> None:  # noqa: ARG001
    """Send each resource or transaction.

    Raises:
        SendFailed: one was not taken.
    """
    assert isinstance(destination, FhirDestination)
    base = str(destination.url).rstrip("/")
    with http_client(
        destination.credentials, destination.tls, destination.timeout_seconds
    ) as client:
        for parcel in parcels:
            _send(client, base, parcel.data)


def _send(client: httpx.Client, base: str, data: bytes) -> None:
    resource = json.loads(data)
    method, url = "POST", base
    if resource["resourceType"] != "Bundle":
        method, url = "PUT", f"{base}/{resource['resourceType']}/{resource['id']}"
    response = exchange(
        lambda: client.request(
            method, url, content=data, headers={"Content-Type": _JSON, "Accept": _JSON}
        )
    )
    if response.status_code == httpx.codes.CONFLICT:
        # Two transactions at once on the same resources; not about what is in ours.
        raise SendFailed("The server saw a conflict.", Reason.SERVER_ERROR)
    if response.status_code not in _DONE:
        raise refuse_status(response)
