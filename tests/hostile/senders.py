"""One sender for each door: sends a case, and says what was answered and what that means."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from http.client import HTTPConnection
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from tests.hostile.case import AnyCase, Case, Dice, Pdus, Store, identity
from tests.hostile.dimse_cases import CALLED, CALLING, DX, EXPLICIT, associate, files
from tests.hostile.generator import Door
from tests.hostile.server import Hospital
from tests.hostile.stow_cases import files as stow_request
from tests.hostile.wado_cases import files as wado_request
from tests.pictures import dicom, png

import llmcxr_models
import llmcxr_service
from llmcxr_service.intake_dicom.reception import Verdict
from llmcxr_service.intake_dicom.sop_classes import TRANSFER_SYNTAXES
from llmcxr_service.problems import KINDS, MEDIA_TYPE

_SECONDS = 120.0
_PATIENCE_SECONDS = 0.5
_DICOM_JSON = "application/dicom+json"
_FAILURES = {verdict.status for verdict in Verdict if not verdict.is_success}
_PDUS = {2: "accepted", 3: "rejected", 4: "answered", 6: "released", 7: "aborted"}
_TRIES, _PAUSE_SECONDS = 300, 0.1
"""While associations of before are being ended there may be no room."""

# Its lines quote data sets, and are no part of this experiment.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class Meaning(StrEnum):
    """What an answer means."""

    REFUSED = "refused"
    """A documented refusal: a typed 4xx, a DIMSE failure status, a rejection, an abort."""
    KEPT = "kept"
    """Taken by its header into the queue, where its pixels have to be refused."""
    ARCHIVE = "archive"
    """A typed 502 or 504: the archive that was asked failed."""
    UNTYPED = "untyped"
    """Anything else."""


@dataclass(frozen=True)
class Said:
    """One answer.

    Attributes:
        text: status, problem and reason in one line.
        meaning: see there.
        kept: how many instances were taken into the queue.
        waited: seconds before it was sent, until there was room for an association.
    """

    text: str
    meaning: Meaning
    kept: int = 0
    waited: float = 0.0


class HttpSender:
    """Uploads, STOW-RS and pulls.

    Args:
        hospital: where to.
        door: which of them.
    """

    def __init__(self, hospital: Hospital, door: Door) -> None:
        self._hospital, self._door = hospital, door
        self._client = httpx.Client(
            base_url=hospital.server.url, timeout=_SECONDS, trust_env=False
        )  # fmt: skip

    def send(self, case: AnyCase) -> Said:
        """Send a case."""
        assert isinstance(case, Case)
        if case.answer is not None:
            self._hospital.sources.lay_out(
                json.loads(case.content)["dicomweb"]["series"], case.answer
            )
        if "Content-Length" in case.headers:
            return describe(self._send_lie(case))
        response = self._client.post(
            case.path, content=case.content, headers=case.headers, params=case.params
        )
        return describe(response)

    def _send_lie(self, case: Case) -> httpx.Response:
        """A request whose length is another than it says, which httpx would not send."""
        connection = HTTPConnection(self._client.base_url.netloc.decode(), timeout=_SECONDS)
        try:
            connection.request("POST", case.path, case.content, case.headers)
            answer = connection.getresponse()
            return httpx.Response(
                answer.status, headers=answer.getheaders(), content=answer.read()
            )  # fmt: skip
        finally:
            connection.close()

    def send_sound(self, number: int) -> Said:
        """Send a sound file; the answer should say success."""
        dice = Dice(f"sound/{self._door}/{number}")
        data = sound(dice, number)
        if self._door is Door.STOW:
            return self.send(stow_request("sound", data, _Alone(number)))
        if self._door is Door.PULL:
            return self.send(wado_request("sound", data, dice))
        upload = data if number % 2 else png(number)
        headers = {"Content-Type": "application/octet-stream"}
        return self.send(Case("sound", upload, headers=headers))

    def rest(self) -> None:
        """Nothing is sent for a while; that is all one to HTTP."""

    def close(self) -> None:
        """End it."""
        self._client.close()


class _Alone(Dice):
    """Dice that add no second part to a request."""

    def random(self) -> float:
        return 0.99


class DimseSender:
    """C-STORE by pynetdicom, and what is none, by a bare connection.

    Args:
        port: where to.
        calling: our AE title.
        heard: given every PDU that comes back.
    """

    def __init__(
        self, port: int, calling: str = CALLING, heard: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._port, self._calling, self._heard = port, calling, heard
        self._association: Association | None = None
        self._connections: list[socket.socket] = []

    def send(self, case: AnyCase) -> Said:
        """Send a case."""
        if isinstance(case, Pdus):
            return self._send_bytes(case)
        assert isinstance(case, Store)
        started = time.monotonic()
        association = self._associate()
        waited = time.monotonic() - started
        status = _store(association, case)
        if status is None:
            self.rest()
            return Said("no status", Meaning.UNTYPED, waited=waited)
        if status == 0:
            return Said("0x0000", Meaning.KEPT, kept=1, waited=waited)
        meaning = Meaning.REFUSED if status in _FAILURES else Meaning.UNTYPED
        return Said(f"0x{status:04X}", meaning, waited=waited)

    def send_sound(self, number: int) -> Said:
        """Send a sound file; the answer should say success."""
        dice = Dice(f"sound/dimse/{number}")
        return self.send(files("sound", sound(dice, number), dice))

    def rest(self) -> None:
        """Nothing is sent for a while: the receiver would end a silent association.

        pynetdicom would then wait for the answer to what it sends in that moment.
        """
        self.close()

    def close(self) -> None:
        """End the association."""
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None
        self._close_connections()

    def _associate(self) -> Association:
        """The one that stands, or a new one."""
        for _ in range(_TRIES):
            if self._association is not None and self._association.is_established:
                return self._association
            self._close_connections()
            entity = AE(self._calling)
            entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
            for syntax in TRANSFER_SYNTAXES:
                entity.add_requested_context(DX, syntax)
            self._association = entity.associate(
                "127.0.0.1",
                self._port,
                ae_title=CALLED,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._note),
                    (evt.EVT_DATA_RECV, lambda event: self._heard(bytes(event.data))),
                ],
            )
            if not self._association.is_established:
                time.sleep(_PAUSE_SECONDS)
        raise ConnectionError("the receiver accepts no association")

    def _note(self, event: evt.Event) -> None:
        self._connections.append(event.assoc.dul.socket.socket)

    def _close_connections(self) -> None:
        # pynetdicom leaves that to the garbage collector.
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _send_bytes(self, case: Pdus) -> Said:
        started = time.monotonic()
        connection = self._connect(associated=case.associated)
        waited = time.monotonic() - started
        with connection:
            try:
                connection.sendall(case.data)
                got = self._wait(connection) if case.waits else []
                connection.shutdown(socket.SHUT_WR)
                got += self._read_pdus(connection)
            except OSError:
                return Said("reset", Meaning.REFUSED, waited=waited)
        text = " ".join(each for each, _ in groupby(got)) or "closed"
        return Said(text, _meaning_of(got), waited=waited)

    def _wait(self, connection: socket.socket) -> list[str]:
        """One answer; not every message gets one, and then the receiver waits for the next."""
        connection.settimeout(_PATIENCE_SECONDS)
        try:
            return self._read_pdus(connection, most=1)
        except TimeoutError:
            return ["silence"]
        finally:
            connection.settimeout(_SECONDS)

    def _connect(self, *, associated: bool) -> socket.socket:
        """A connection, and on it an association if there is to be one."""
        for _ in range(_TRIES):
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=_SECONDS)
            if not associated:
                return connection
            with contextlib.suppress(OSError):
                connection.sendall(associate(calling=self._calling.encode()))
                if self._read_pdus(connection, most=1) == ["accepted"]:
                    return connection
            connection.close()
            time.sleep(_PAUSE_SECONDS)
        raise ConnectionError("the receiver accepts no association")

    def _read_pdus(self, connection: socket.socket, most: int = 100) -> list[str]:
        """What comes, PDU by PDU, until it ends."""
        found: list[str] = []
        while len(found) < most:
            head = _read(connection, 6)
            if len(head) < 6:
                break
            kind, _, length = struct.unpack(">BBL", head)
            body = _read(connection, length)
            self._heard(head + body)
            status = body.find(b"\0\0\0\x09\x02\0\0\0") if kind == 4 else -1
            if status >= 0:
                found.append(f"0x{struct.unpack_from('<H', body, status + 8)[0]:04X}")
            else:
                found.append(_PDUS.get(kind, f"pdu {kind}"))
        return found


def _store(association: Association, case: Store) -> int | None:
    """Status of the answer; None where the association was ended instead.

    As pynetdicom's `send_c_store`, which would encode a data set and not take bytes.
    """
    context = next(
        each for each in association.accepted_contexts if each.transfer_syntax == [case.syntax]
    ) if case.syntax in TRANSFER_SYNTAXES else association.accepted_contexts[0]  # fmt: skip
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(DX)
    request.AffectedSOPInstanceUID = UID(case.instance)
    request.Priority = 2
    request.DataSet = io.BytesIO(case.data)
    association._reactor_checkpoint.clear()
    while association.is_established and not association._is_paused:
        association.join(0.0001)
    assert context.context_id is not None
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status)


def _meaning_of(got: Sequence[str]) -> Meaning:
    """Nothing that is none of an association may be answered by a success."""
    accepted = any(each in ("accepted", "0x0000") for each in got)
    return Meaning.UNTYPED if accepted else Meaning.REFUSED


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def sender(hospital: Hospital, door: Door) -> HttpSender | DimseSender:
    """Who sends through a door."""
    return DimseSender(hospital.dicom_port) if door is Door.DIMSE else HttpSender(hospital, door)


def sound(dice: Dice, number: int) -> bytes:
    """A sound radiograph with all its identifiers, by the dice."""
    return dicom(number, EXPLICIT, **identity(dice))


def describe(response: httpx.Response) -> Said:
    """Status, problem and reason in one line; and whether it is a documented refusal."""
    status = response.status_code
    media_type = response.headers.get("content-type", "")
    if media_type == _DICOM_JSON:
        return _describe_stored(status, response.json())
    if media_type != MEDIA_TYPE:
        return Said(f"{status}", Meaning.UNTYPED)
    problem: dict[str, Any] = json.loads(response.content)
    slug, reason = problem["type"].removeprefix("/problems/"), problem.get("reason")
    documented = {(kind.status, kind.slug) for kind in KINDS.values()}
    text = f"{status} {slug} {reason}"
    if (status, slug) not in documented or reason not in known_reasons():
        return Said(text, Meaning.UNTYPED)
    if 400 <= status < 500:
        return Said(text, Meaning.REFUSED)
    is_archive = status in (502, 504) and str(reason).startswith("source")
    return Said(text, Meaning.ARCHIVE if is_archive else Meaning.UNTYPED)


def _describe_stored(status: int, module: dict[str, Any]) -> Said:
    """The answer to a STOW-RS request: how many were stored, and why others were not."""
    kept = len(module.get("00081199", {}).get("Value", []))
    items = [
        *module.get("00081198", {}).get("Value", []),
        *module.get("0008119A", {}).get("Value", []),
    ]
    reasons = {item["00081197"]["Value"][0] for item in items}
    text = " ".join([str(status), *sorted(f"0x{reason:04X}" for reason in reasons)])
    if not reasons <= _FAILURES or (kept > 0) != (status in (200, 202)) or not (kept or items):
        return Said(text, Meaning.UNTYPED)
    return Said(text, Meaning.KEPT if kept else Meaning.REFUSED, kept)


@cache
def known_reasons() -> frozenset[str]:
    """Every reason that stands in the source of models and service."""
    found: set[str] = set()
    for package in (llmcxr_models, llmcxr_service):
        for path in Path(package.__file__).parent.rglob("*.py"):
            found |= _reasons(ast.parse(path.read_text()))
    return frozenset(found)


def _reasons(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            name: str | None = node.arg
        elif isinstance(node, ast.Assign):
            name = getattr(node.targets[0], "id", None)
        else:
            continue
        value = getattr(node.value, "value", None)
        if name in {"reason", "default_reason"} and isinstance(value, str):
            found.add(value)
    return found
