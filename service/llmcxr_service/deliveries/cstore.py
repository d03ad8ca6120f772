"""C-STORE to an archive (PS3.4, annex B; statuses of PS3.7, C.4 and PS3.4, B.2.3)."""

from __future__ import annotations

import io
import logging

from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association

from llmcxr_service.deliveries.destinations import Destination, StoreDestination
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.sending import Parcel, http_client, tls_context
from llmcxr_service.deliveries.stow import Identity, identity, is_stored, verify_stored

# Its lines quote data sets.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

_WARNINGS = frozenset({0x0001, 0xB000, 0xB006, 0xB007})
_DUPLICATE = 0x0111
_PASSING = {0x0110: Reason.SERVER_ERROR, 0x0124: Reason.UNAUTHORIZED, 0x0213: Reason.OVERLOADED}
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


def send_cstore(destination: Destination, parcels: tuple[Parcel, ...], *, again: bool) -> None:
    """Store objects in one association; where `verify_url` is set, ask for them by QIDO-RS.

    Raises:
        SendFailed: not all of them are known to be stored.
    """
    assert isinstance(destination, StoreDestination)
    identities = [identity(parcel.data) for parcel in parcels]
    if again and destination.verify_url is not None and _ask(destination, identities):
        return
    association = _associate(destination, identities)
    try:
        for parcel in parcels:
            _store(association, parcel)
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()
    if destination.verify_url is not None:
        _ask(destination, identities, need=True)


def _associate(destination: StoreDestination, identities: list[Identity]) -> Association:
    ae = AE(ae_title=destination.calling_ae)
    ae.connection_timeout = min(10.0, destination.timeout_seconds)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_seconds
    for sop_class, syntax in sorted({(i.sop_class, i.transfer_syntax) for i in identities}):
        ae.add_requested_context(sop_class, syntax)
    tls = None
    if destination.tls is not None:
        name = destination.tls.server_name or destination.host
        tls = (tls_context(destination.tls), name)
    association = ae.associate(
        destination.host, destination.port, ae_title=destination.called_ae, tls_args=tls
    )
    if association.is_established:
        return association
    if association.is_rejected:
        raise SendFailed("The archive refuses the association.", Reason.ASSOCIATION)
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        raise SendFailed("The archive accepts none of these SOP classes.", Reason.REFUSED)
    raise SendFailed("The archive cannot be reached.", Reason.UNREACHABLE)


def _store(association: Association, parcel: Parcel) -> None:
    if not association.is_established:
        raise SendFailed("The connection broke.", Reason.UNREACHABLE)
    dataset = dcmread(io.BytesIO(parcel.data))
    try:
        answer = association.send_c_store(dataset)
    except ValueError:  # no accepted presentation context
        raise SendFailed("The archive does not take this SOP class.", Reason.REFUSED) from None
    except RuntimeError:  # the association ended under our hands
        raise SendFailed("The connection broke.", Reason.UNREACHABLE) from None
    if "Status" not in answer:
        raise SendFailed("The archive did not answer in time.", Reason.TIMEOUT)
    status = int(answer.Status)
    if status == 0 or status in _WARNINGS or status == _DUPLICATE:
        return
    if status in _OUT_OF_RESOURCES:
        raise SendFailed("The archive has no room.", Reason.OVERLOADED)
    if status in _PASSING:
        raise SendFailed("The archive could not store it.", _PASSING[status])
    raise SendFailed("The archive refused it.", Reason.REFUSED)


def _ask(destination: StoreDestination, identities: list[Identity], *, need: bool = False) -> bool:
    base = str(destination.verify_url).rstrip("/")
    with http_client(
        destination.credentials, destination.tls, destination.timeout_seconds
    ) as client:
        if need:
            verify_stored(client, base, identities)
            return True
        return all(is_stored(client, base, identity) for identity in identities)
