"""Each way of sending against a real server on loopback, and what its refusals mean."""

import contextlib
import json
import socket
import threading

import pytest
from pydicom.uid import EnhancedSRStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.certificates import make_certificate
from tests.service.conftest import serve
from tests.service.deliveries.samples import sample_parcels

from llmcxr_service.deliveries.destinations import (
    Credentials,
    FhirDestination,
    MllpDestination,
    StoreDestination,
    StowDestination,
    Tls,
)
from llmcxr_service.deliveries.mllp import END, START
from llmcxr_service.deliveries.outcome import Reason, SendFailed
from llmcxr_service.deliveries.senders import SENDERS
from llmcxr_service.receiving import Output

SR = sample_parcels(Output.ENHANCED_SR)
HL7 = sample_parcels(Output.HL7)
FHIR = sample_parcels(Output.FHIR)


def send(destination, parcels, *, again=False):
    SENDERS[destination.kind](destination, parcels, again=again)


def failure(destination, parcels, **options):
    with pytest.raises(SendFailed) as caught:
        send(destination, parcels, **options)
    return caught.value


def stow(url, **changes):
    return StowDestination(name="pacs", kind="stow", url=url, timeout_seconds=5.0, **changes)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# STOW-RS


def test_stow_is_verified(archive, archive_url):
    send(stow(archive_url), SR)
    assert len(archive.instances) == 1
    archive.instances.clear()
    archive.lost = 1
    assert failure(stow(archive_url), SR).cause is Reason.NOT_STORED
    archive.lost = 1
    send(stow(archive_url, verify=False), SR)


def test_stow_again_asks_first(archive, archive_url):
    send(stow(archive_url), SR)
    send(stow(archive_url), SR, again=True)
    assert archive.posts == 1


def test_stow_with_a_token(archive, archive_url, tmp_path):
    archive.token = "right"
    token = tmp_path / "token"
    token.write_text("wrong")
    destination = stow(archive_url, credentials=Credentials(token_file=token))
    assert failure(destination, SR).cause is Reason.UNAUTHORIZED
    # A rotated secret needs no restart.
    token.write_text("right\n")
    send(destination, SR)


@pytest.mark.parametrize(
    ("status", "cause", "is_permanent"),
    [
        (400, Reason.REFUSED, True),
        (401, Reason.UNAUTHORIZED, False),
        (403, Reason.UNAUTHORIZED, False),
        (408, Reason.OVERLOADED, False),
        (413, Reason.REFUSED, True),
        (415, Reason.REFUSED, True),
        (429, Reason.OVERLOADED, False),
        (500, Reason.SERVER_ERROR, False),
        (503, Reason.OVERLOADED, False),
        (302, Reason.PROTOCOL, False),
    ],
)
def test_http_statuses(archive, archive_url, status, cause, is_permanent):
    archive.faults.append(status)
    failed = failure(stow(archive_url), SR)
    assert (failed.cause, failed.is_permanent) == (cause, is_permanent)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (0x0111, None),
        (0x0110, Reason.SERVER_ERROR),
        (0x0124, Reason.UNAUTHORIZED),
        (0xA700, Reason.OVERLOADED),
        (0xA900, Reason.REFUSED),
        (0xC000, Reason.REFUSED),
        (0x0122, Reason.REFUSED),
    ],
)
def test_failure_reasons_of_stow(code, cause):
    item = {"00081197": {"vr": "US", "Value": [code]}}

    async def answer(request):
        return JSONResponse({"00081198": {"vr": "SQ", "Value": [item]}}, status_code=409)

    app = Starlette(routes=[Route("/studies", answer, methods=["POST"])])
    with serve(app) as url:
        if cause is None:
            send(stow(url, verify=False), SR)
        else:
            assert failure(stow(url, verify=False), SR).cause is cause


def test_nobody_listens():
    url = f"http://127.0.0.1:{free_port()}"
    assert failure(stow(url), SR).cause is Reason.UNREACHABLE


def test_no_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        destination = StowDestination(name="pacs", kind="stow", url=url, timeout_seconds=0.3)
        assert failure(destination, SR).cause is Reason.TIMEOUT


# FHIR


def test_fhir_is_a_transaction_with_ids_of_its_own():
    taken = []

    async def take(request):
        taken.append((request.method, request.url.path, await request.json()))
        return JSONResponse({"resourceType": "Bundle", "type": "transaction-response"})

    app = Starlette(routes=[Route("/{rest:path}", take, methods=["POST", "PUT"])])
    with serve(app) as url:
        destination = FhirDestination(name="fhir", kind="fhir", url=url + "/r4")
        send(destination, FHIR)
        send(destination, FHIR, again=True)
    (method, path, bundle), second = taken
    assert (method, path.rstrip("/"), bundle["type"]) == ("POST", "/r4", "transaction")
    # Nothing in it may make a second resource when it comes twice.
    for entry in bundle["entry"]:
        request = entry["request"]
        assert request["method"] == "PUT" or "ifNoneExist" in request
    assert second[2] == bundle


@pytest.mark.parametrize(
    ("status", "cause"),
    [(409, Reason.SERVER_ERROR), (412, Reason.REFUSED), (422, Reason.REFUSED)],
)
def test_fhir_refusals(status, cause):
    async def refuse(request):
        return Response(status_code=status)

    app = Starlette(routes=[Route("/{rest:path}", refuse, methods=["POST", "PUT"])])
    with serve(app) as url:
        destination = FhirDestination(name="fhir", kind="fhir", url=url)
        assert failure(destination, FHIR).cause is cause


# HL7 v2 over MLLP


@contextlib.contextmanager
def mllp_server(code="AA", *, condition="", tls=None, answer=None):
    """Acknowledges every message with a code; yields its port and what it took."""
    taken = []
    listener = socket.create_server(("127.0.0.1", 0))

    def work():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError):
                    if tls is not None:
                        connection = tls.wrap_socket(connection, server_side=True)
                    with connection:
                        converse(connection)

    def converse(connection):
        data = b""
        while END not in data:
            chunk = connection.recv(1000)
            if not chunk:
                return
            data += chunk
        message = data[1 : data.index(END)]
        taken.append(message)
        control_id = message.split(b"\r")[0].split(b"|")[9].decode()
        text = f"MSH|^~\\&|RIS|||||| ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r"
        text += f"ERR|||{condition}^x|E\r" if condition else ""
        reply = START + text.encode() + END if answer is None else answer
        # In pieces, as networks do it.
        connection.sendall(reply[:10])
        connection.sendall(reply[10:])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def mllp(port, **changes):
    return MllpDestination(
        name="ris", kind="mllp", host="127.0.0.1", port=port, timeout_seconds=3.0, **changes
    )


def test_mllp_is_acknowledged():
    with mllp_server() as (port, taken):
        send(mllp(port), HL7)
    assert taken == [HL7[0].data]


@pytest.mark.parametrize(
    ("code", "condition", "cause"),
    [
        ("AE", "", Reason.SERVER_ERROR),
        ("CE", "", Reason.SERVER_ERROR),
        ("AR", "", Reason.REFUSED),
        ("AR", "207", Reason.SERVER_ERROR),
        ("CR", "204", Reason.REFUSED),
        ("XX", "", Reason.PROTOCOL),
    ],
)
def test_mllp_refusals(code, condition, cause):
    with mllp_server(code, condition=condition) as (port, _):
        assert failure(mllp(port), HL7).cause is cause


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Reason.UNREACHABLE),
        (b"nonsense" + END, Reason.PROTOCOL),
        (START + b"MSH|^~\\&|\rMSA|AA|another" + END, Reason.PROTOCOL),
        (START + b"\xff\xfe" + END, Reason.PROTOCOL),
        (b"", Reason.UNREACHABLE),
    ],
)
def test_mllp_answers_that_are_none(answer, cause):
    with mllp_server(answer=answer) as (port, _):
        assert failure(mllp(port), HL7).cause is cause


def test_mllp_over_tls(tmp_path):
    certificate = make_certificate(tmp_path)
    with mllp_server(tls=certificate.server_context()) as (port, taken):
        send(mllp(port, tls=Tls(ca_file=certificate.path)), HL7)
        assert len(taken) == 1
        assert failure(mllp(port, tls=Tls()), HL7).cause is Reason.TLS


def test_mllp_nobody_listens():
    assert failure(mllp(free_port()), HL7).cause is Reason.UNREACHABLE


# C-STORE


@contextlib.contextmanager
def scp(status=0x0000, *, contexts=(EnhancedSRStorage,), calling=(), tls=None):
    """A real C-STORE SCP of pynetdicom; yields its port and the data sets it took."""
    taken = []

    def store(event):
        taken.append(event.dataset)
        return status

    ae = AE("ARCHIVE")
    for context in contexts:
        ae.add_supported_context(context, ExplicitVRLittleEndian)
    ae.require_calling_aet = list(calling)
    ae.require_called_aet = True
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)], ssl_context=tls
    )
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()


def cstore(port, **changes):
    fields = {
        "name": "pacs",
        "kind": "c-store",
        "host": "127.0.0.1",
        "port": port,
        "called_ae": "ARCHIVE",
        "timeout_seconds": 5.0,
    }
    return StoreDestination(**{**fields, **changes})


def test_cstore():
    with scp() as (port, taken):
        send(cstore(port), SR)
    assert [dataset.Modality for dataset in taken] == ["SR"]


def test_cstore_over_tls(tmp_path):
    certificate = make_certificate(tmp_path)
    with scp(tls=certificate.server_context()) as (port, taken):
        send(cstore(port, tls=Tls(ca_file=certificate.path)), SR)
        assert len(taken) == 1
        assert failure(cstore(port, tls=Tls()), SR).cause is not None
        assert len(taken) == 1


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (0x0111, None),
        (0xB000, None),
        (0x0110, Reason.SERVER_ERROR),
        (0x0124, Reason.UNAUTHORIZED),
        (0xA700, Reason.OVERLOADED),
        (0xA900, Reason.REFUSED),
        (0xC001, Reason.REFUSED),
    ],
)
def test_cstore_statuses(status, cause):
    with scp(status) as (port, _):
        if cause is None:
            send(cstore(port), SR)
        else:
            assert failure(cstore(port), SR).cause is cause


def test_cstore_refused_associations():
    with scp(calling=["SOMEBODY"]) as (port, _):
        assert failure(cstore(port), SR).cause is Reason.ASSOCIATION
    with scp() as (port, _):
        assert failure(cstore(port, called_ae="OTHER"), SR).cause is Reason.ASSOCIATION
    with scp(contexts=("1.2.840.10008.1.1",)) as (port, _):
        assert failure(cstore(port), SR).cause is Reason.REFUSED


# pynetdicom leaves closing a socket that was never connected to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_cstore_nobody_listens():
    assert failure(cstore(free_port()), SR).cause is Reason.UNREACHABLE


def test_cstore_is_verified_by_qido(archive, archive_url):
    with scp() as (port, _):
        destination = cstore(port, verify_url=archive_url)
        assert failure(destination, SR).cause is Reason.NOT_STORED
        archive.keep(SR[0].data)
        send(destination, SR)


def test_samples_are_json_and_text():
    assert json.loads(FHIR[0].data)["resourceType"] == "Bundle"
    assert HL7[0].data.startswith(b"MSH|")
