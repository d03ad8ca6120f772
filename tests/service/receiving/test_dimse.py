"""The DIMSE receiver, by dcmtk and pynetdicom as senders, and by senders that break the rules."""

from __future__ import annotations

import gc
import io
import json
import queue
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import psutil
import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind
from tests.pictures import PATIENT, PATIENT_ID
from tests.service.receiving.conftest import AE_TITLE, LIMIT, ROUTER, free_port, instance, wait_for

from llmcxr_service.intake_dicom.bounded import _Messages, _StateMachine
from llmcxr_service.intake_dicom.listening import make_dimse_receiver
from llmcxr_service.intake_dicom.sop_classes import SOP_CLASSES, TRANSFER_SYNTAXES

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"

needs_dcmtk = pytest.mark.skipif(
    not (shutil.which("storescu") and shutil.which("echoscu")), reason="dcmtk is not installed"
)


def entity(title=ROUTER, contexts=((DX, None),)):
    ae = AE(title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, syntaxes or TRANSFER_SYNTAXES)
    return ae


@contextmanager
def associated(hospital, *, called=AE_TITLE, port=None, tls=None, **options):
    opened = []
    association = entity(**options).associate(
        "127.0.0.1",
        port or hospital.port,
        ae_title=called,
        tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda e: opened.append(e.assoc.dul.socket.socket))],
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        if association.ident is not None:
            association.join(10)
        for connection in opened:  # pynetdicom leaves that to the garbage collector
            connection.close()


@contextmanager
def accepted(hospital):
    """An association that stands; on a busy machine the receiver may have given one up."""
    while True:
        wait_for(idle)
        with associated(hospital) as association:
            if association.accepted_contexts:
                yield association
                return


def store(association, data):
    return association.send_c_store(dcmread(io.BytesIO(data))).get("Status")


@needs_dcmtk
def test_dcmtk_echoes_and_stores_and_the_report_reaches_the_archive(hospital, tmp_path):
    peer = ["-aet", ROUTER, "-aec", AE_TITLE, "127.0.0.1", str(hospital.port)]
    subprocess.run(["echoscu", *peer], check=True, timeout=30)
    study = generate_uid()
    (tmp_path / "a.dcm").write_bytes(instance(StudyInstanceUID=study))
    (tmp_path / "b.dcm").write_bytes(instance(StudyInstanceUID=study, Modality="CR"))
    done = subprocess.run(
        ["storescu", "-v", *peer, str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.stdout + done.stderr).count("Status: 0x0000") == 2 or (
        (done.stdout + done.stderr).count("(Success)") == 2
    )
    results = [dcmread(io.BytesIO(data)) for data in hospital.results_in(study, 2)]
    assert {result.Modality for result in results} == {"SR"}
    assert {result.PatientID for result in results} == {PATIENT_ID}


def deliver(hospital, data, title=ROUTER):
    """The status of a store; a busy machine's receiver may give one up, and is asked again."""
    while True:
        wait_for(idle)
        with associated(hospital, title=title) as association:
            status = store(association, data) if association.accepted_contexts else None
            if status is not None:
                return status


def test_receptions_are_in_the_audit_log_as_their_senders(hospital):
    before = len(hospital.events("C-STORE"))
    assert deliver(hospital, instance()) == 0
    assert deliver(hospital, instance(PixelData=bytes(LIMIT))) != 0
    wait_for(lambda: len(hospital.events("C-STORE")) >= before + 2)
    routers = hospital.events("C-STORE")[before:]
    assert deliver(hospital, instance(), "OTHER") == 0
    other = hospital.events("C-STORE")[-1]
    assert {"0", "4"} <= {event["outcome"] for event in routers}
    assert {event["agent"][0]["who"]["identifier"]["value"] for event in routers} == {
        routers[0]["agent"][0]["who"]["identifier"]["value"]
    }
    assert other["agent"] != routers[0]["agent"]
    assert other["entity"] != routers[0]["entity"]
    for event in (*routers, other):
        AuditEvent.model_validate(event)
        assert (event["action"], event["type"]["code"]) == ("C", "110104")
        assert ROUTER not in json.dumps(event)


@needs_dcmtk
@pytest.mark.parametrize(
    ("calling", "called"), [("STRANGER", AE_TITLE), (ROUTER, "SOMEBODY"), ("router", AE_TITLE)]
)
def test_a_wrong_title_is_rejected(hospital, calling, called):
    before = hospital.associations("rejected")
    peer = ["-aet", calling, "-aec", called, "127.0.0.1", str(hospital.port)]
    done = subprocess.run(["echoscu", *peer], timeout=30, capture_output=True)
    assert done.returncode != 0
    wait_for(lambda: hospital.associations("rejected") == before + 1)


def test_what_is_offered(hospital):
    offered = [(DX, None), (CR, None), (VERIFICATION, ["1.2.840.10008.1.2"])]
    refused = [
        (CTImageStorage, None),
        (DX_FOR_PROCESSING, None),
        (SOP_CLASSES["SecondaryCaptureImageStorage"], None),
        (StudyRootQueryRetrieveInformationModelFind, None),
        (CR, ["1.2.840.10008.1.2.1.99"]),
    ]
    with associated(hospital, contexts=[*offered, *refused]) as association:
        accepted = {str(c.abstract_syntax) for c in association.accepted_contexts}
        assert accepted == {DX, CR, VERIFICATION}
        assert len(association.rejected_contexts) == len(refused)


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_every_transfer_syntax_is_taken(hospital, syntax):
    with associated(hospital, contexts=[(DX, [syntax])]) as association:
        assert [c.transfer_syntax for c in association.accepted_contexts] == [[syntax]]


def test_big_endian_arrives_as_such(hospital):
    study = generate_uid()
    little = dcmread(io.BytesIO(instance(StudyInstanceUID=study)))
    pixels = np.frombuffer(little.PixelData, "<u2").astype(">u2").tobytes()
    little.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    little["PixelData"].VR, little.PixelData = "OW", pixels
    data = io.BytesIO()
    dcmwrite(data, little, implicit_vr=False, little_endian=False, force_encoding=True)
    with associated(hospital, contexts=[(DX, ["1.2.840.10008.1.2.2"])]) as association:
        assert store(association, data.getvalue()) == 0x0000
    assert len(hospital.results_in(study, 1)) == 1


def test_statuses(hospital):
    with associated(hospital) as association:
        assert store(association, instance(BodyPartExamined="HAND")) == 0x0000
        no_study = dcmread(io.BytesIO(instance()))
        del no_study.StudyInstanceUID
        assert association.send_c_store(no_study).Status == 0xC000
        assert store(association, instance(PixelData=bytes(LIMIT))) == 0xC001
        # The association survives each of them.
        assert store(association, instance()) == 0x0000
    assert hospital.received("dimse", "too-large") >= 1


def test_an_instance_under_another_name_is_refused(hospital):
    # What the command says and what the data set says, as a broken or hostile sender has it.
    dataset = dcmread(io.BytesIO(instance()))
    with associated(hospital) as association:
        original = association.dimse.send_msg

        def renamed(primitive, context_id):
            primitive.AffectedSOPInstanceUID = "1.2.3.4"
            original(primitive, context_id)

        association.dimse.send_msg = renamed
        assert association.send_c_store(dataset).Status == 0xA900


def test_the_queue_is_away(hospital):
    jobs = hospital.settings.spool / "jobs"
    away = jobs.rename(jobs.with_name("away"))
    jobs.touch()
    data = instance()
    try:
        with associated(hospital) as association:
            assert store(association, data) == 0xA700
    finally:
        jobs.unlink()
        away.rename(jobs)
    with associated(hospital) as association:
        assert store(association, data) == 0x0000
    assert hospital.received("dimse", "not-queued") == 1


def test_0x0000_means_that_it_is_in_the_spool(hospital):
    study = generate_uid()
    data = instance(StudyInstanceUID=study)
    before = set((hospital.settings.spool / "jobs").iterdir())
    with associated(hospital) as association:
        assert store(association, data) == 0x0000
        assert len(set((hospital.settings.spool / "jobs").iterdir()) - before) == 1


def test_one_association_too_many(hospital):
    with associated(hospital) as one, associated(hospital) as two:
        assert one.is_established
        assert two.is_established
        with associated(hospital) as three:
            assert three.is_rejected
    wait_for(lambda: hospital.app.state.runtime is not None)
    with associated(hospital) as again:
        assert again.is_established


def test_connections_that_say_nothing_are_bounded_and_closed(hospital):
    before = hospital.associations("refused-too-many")
    held = [socket.create_connection(("127.0.0.1", hospital.port)) for _ in range(12)]
    try:
        wait_for(lambda: hospital.associations("refused-too-many") >= before + 4)
        # 2 seconds of silence are enough for the others too.
        for connection in held:
            connection.settimeout(10)
            assert connection.recv(100) in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00")
    finally:
        for connection in held:
            connection.close()
    wait_for(idle)
    with associated(hospital) as association:
        assert association.is_established


def test_a_pdu_of_4_gib_is_not_read(hospital):
    with socket.create_connection(("127.0.0.1", hospital.port)) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(1000))
        connection.settimeout(10)
        assert connection.recv(100) in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00")


def test_a_pdu_that_comes_in_drops_is_given_up(hospital):
    with socket.create_connection(("127.0.0.1", hospital.port)) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 200))
        connection.settimeout(0.2)
        started = time.monotonic()
        while time.monotonic() - started < 10:
            try:
                connection.sendall(b"x")
                if connection.recv(100) in (b"",):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - started < 6


def test_connections_are_closed_without_the_garbage_collector(hospital):
    def connections():
        found = psutil.Process().net_connections("tcp")
        mine = [each for each in found if each.laddr.port == hospital.port]
        return [each for each in mine if each.status != psutil.CONN_LISTEN]

    with socket.create_connection(("127.0.0.1", hospital.port)):
        wait_for(connections)
    wait_for(idle)
    gc.collect()  # what tests before left
    gc.disable()
    try:
        for start in (b"", association_request(), b"\x09nonsense", association_request()[:50]) * 3:
            with socket.create_connection(("127.0.0.1", hospital.port)) as connection:
                connection.sendall(start)
            wait_for(idle)
        wait_for(lambda: not connections())
    finally:
        gc.enable()


def idle():
    return not any("AcceptorThread" in thread.name for thread in threading.enumerate())


def pdata(context_id, fragment):
    item = struct.pack(">LB", len(fragment) + 1, context_id) + fragment
    return struct.pack(">BBL", 4, 0, len(item)) + item


def store_command():
    """The command set of a C-STORE request, with its group length."""
    command = Dataset()
    command.AffectedSOPClassUID = DX
    command.CommandField = 1
    command.MessageID = 1
    command.Priority = 0
    command.CommandDataSetType = 1
    command.AffectedSOPInstanceUID = "1.2.3"
    raw = encode(command, True, True)
    return struct.pack("<HHLL", 0, 0, 4, len(raw)) + raw


def test_a_sender_that_does_not_wait_for_answers_is_aborted(hospital):
    with accepted(hospital) as association:
        context = association.accepted_contexts[0].context_id
        message = pdata(context, b"\x03" + store_command()) + pdata(context, b"\x02" + bytes(64))
        association.dul.socket.socket.sendall(message * 20)
        wait_for(lambda: association.is_aborted or not association.is_established)


def test_a_sender_that_leaves_with_two_messages_open_holds_no_association(hospital):
    def message(context):
        return pdata(context, b"\x03" + store_command()) + pdata(
            context, b"\x02" + instance()[144:]
        )

    for _ in range(4):  # more than there may be at once
        with accepted(hospital) as association:
            context = association.accepted_contexts[0].context_id
            connection = association.dul.socket.socket
            connection.sendall(message(context) * 2)
            with suppress(OSError):  # the receiver may have been faster
                connection.shutdown(socket.SHUT_WR)
            wait_for(lambda: not association.is_established, seconds=30)
        wait_for(idle, seconds=30)


def test_the_end_of_a_connection_is_never_one_message_too_many():
    # The race above, without its luck: what pynetdicom puts when the connection has ended.
    messages = _Messages(1)
    messages.put("waiting")
    messages.put((None, None))
    with pytest.raises(queue.Full):
        messages.put("one too many")
    assert messages.get(block=False) == "waiting"
    messages.put((None, None))
    assert messages.get(block=False) == (None, None)


def test_an_answer_to_an_aborted_sender_is_dropped():
    # What the sender above meets where its first message is answered after the abort.
    association = Association(AE(), "acceptor")
    machine = _StateMachine(association.dul)
    machine.current_state = "Sta13"
    association.dul.to_provider_queue.put(P_DATA())
    machine.do_action("Evt9")
    assert association.dul.to_provider_queue.empty()
    assert machine.current_state == "Sta13"
    with pytest.raises(InvalidEventError):
        machine.do_action("Evt5")


def test_a_command_set_over_the_limit_is_aborted(hospital):
    with accepted(hospital) as association:
        context = association.accepted_contexts[0].context_id
        nested = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 2000
        association.dul.socket.socket.sendall(pdata(context, b"\x01" + nested) * 3)
        wait_for(lambda: association.is_aborted or not association.is_established)


def test_addresses(hospital, certificates):
    with listening(hospital, dicom_networks="10.0.0.0/8, 192.168.1.0/24") as port:
        before = hospital.associations("refused-address")
        assert not answers(port)
        assert hospital.associations("refused-address") == before + 1
    with (
        listening(hospital, dicom_networks="127.0.0.0/8") as port,
        associated(hospital, port=port) as association,
    ):
        assert association.is_established


@contextmanager
def listening(hospital, **changes):
    """Another receiver before the same reception."""
    settings = hospital.settings.model_copy(update=changes)
    receiver = make_dimse_receiver(
        settings, free_port(), hospital.runtime.reception, hospital.runtime.metrics, None
    )
    hospital.run(receiver.start())
    try:
        yield receiver.port
    finally:
        hospital.run(receiver.stop())


def answers(port, tls=None):
    """Whether a sender who asks for an association is answered at all."""
    request = association_request()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            if tls is None:
                plain.sendall(request)
                return plain.recv(1) == b"\x02"
            with tls.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(request)
                return wrapped.recv(1) == b"\x02"
    except OSError:
        return False


def association_request():
    """A-ASSOCIATE-RQ for one presentation context (PS3.8, 9.3.2)."""

    def item(kind, content):
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = bytes([1, 0, 0, 0]) + item(0x30, VERIFICATION.encode())
    items = item(0x10, b"1.2.840.10008.3.1.1.1")
    items += item(0x20, context + item(0x40, b"1.2.840.10008.1.2"))
    items += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4"))
    titles = AE_TITLE.ljust(16).encode() + ROUTER.ljust(16).encode()
    body = struct.pack(">HH", 1, 0) + titles + bytes(32) + items
    return struct.pack(">BBL", 1, 0, len(body)) + body


def client_context(certificates, own=None):
    context = ssl.create_default_context(cafile=certificates["ca"])
    if own:
        context.load_cert_chain(certificates[own])
    return context, "127.0.0.1"


def with_tls(certificates, client_ca=None):
    return {
        "dicom_tls_certificate": certificates["server"],
        "dicom_tls_key": certificates["server"],
        "dicom_tls_client_ca": client_ca and certificates[client_ca],
    }


def test_tls(hospital, certificates):
    with listening(hospital, **with_tls(certificates)) as port:
        with associated(hospital, port=port, tls=client_context(certificates)) as association:
            assert store(association, instance()) == 0x0000
        assert not answers(port)


def test_mutual_tls(hospital, certificates):
    with listening(hospital, **with_tls(certificates, "ca")) as port:
        for own, works in (("client", True), ("stranger", False), (None, False)):
            assert answers(port, client_context(certificates, own)[0]) is works, own
        with associated(
            hospital, port=port, tls=client_context(certificates, "client")
        ) as association:
            assert association.is_established
        assert hospital.associations("refused-handshake") >= 2


def test_a_handshake_that_does_not_come_holds_nobody_up(hospital, certificates):
    with (
        listening(hospital, **with_tls(certificates)) as port,
        socket.create_connection(("127.0.0.1", port)),
    ):
        started = time.monotonic()
        with associated(hospital, port=port, tls=client_context(certificates)) as association:
            assert association.is_established
        assert time.monotonic() - started < 2


@needs_dcmtk
def test_dcmtk_over_mutual_tls(hospital, certificates, tmp_path):
    (tmp_path / "a.dcm").write_bytes(instance())
    with listening(hospital, **with_tls(certificates, "ca")) as port:
        peer = ["-aet", ROUTER, "-aec", AE_TITLE, "127.0.0.1", str(port), str(tmp_path / "a.dcm")]
        client, ca = str(certificates["client"]), str(certificates["ca"])
        done = subprocess.run(
            ["storescu", "+tls", client, client, "+cf", ca, *peer], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


def test_nothing_of_a_patient_in_the_log(hospital, caplog, capfd):
    with associated(hospital) as association:
        data = instance()
        store(association, data)
        store(association, instance(PatientName=f"{PATIENT}^X", StudyInstanceUID="1.2.3.4711"))
    text = caplog.text + "".join(str(r.__dict__.get("fields")) for r in caplog.records)
    captured = capfd.readouterr()
    text += captured.out + captured.err
    for private in (PATIENT, PATIENT_ID, "4711", str(dcmread(io.BytesIO(data)).SOPInstanceUID)):
        assert private not in text
