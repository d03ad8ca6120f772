"""The audit log: FHIR R4B AuditEvents as JSON lines, each bound to the one before it.

A line's hash is an HMAC-SHA256 of its bytes under a key that lies beside the log; the next line
carries it. So a line that is changed, removed or put in shows, to whoever has the key; a file
of its own notes how long the log was at least, so that one that was cut shows too. Who can read
the key and write the log can forge it: copy log and head elsewhere, by and by.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmcxr_service.durable_files import replace, write_once
from llmcxr_service.errors import AuditError

LOGGER = logging.getLogger(__name__)

CHAIN = "urn:llmcxr:audit-chain"
_FIRST = "0" * 64
STORE = "C-STORE"
_ACTIONS = {"POST": "E", "GET": "R", "DELETE": "D", "PUT": "U", "PATCH": "U", STORE: "C"}
_REQUEST = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "RESTful Operation",
}
# PS3.16, CID 400.
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_ITEM = {"system": _DCM, "code": "110100", "display": "Application Activity"}
_RECEPTION = {"system": _DCM, "code": "110104", "display": "DICOM Instances Transferred"}
_SYSTEM_OBJECT = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
    "code": "2",
    "display": "System Object",
}
_NAME = re.compile(r"audit-(.+)\.jsonl")


@dataclass(frozen=True)
class Event:
    """One request that was answered, one item of a job worked on, or one instance received.

    Attributes:
        id: of the request.
        method: of HTTP, or `C-STORE`.
        route: the pattern of its path; never what stands in it. Empty for a reception.
        status: that was answered, of HTTP also for a reception; 0 where nothing was.
        reason: machine-readable cause of a refusal; empty for none.
        caller: id of who asked; empty where nobody has to say. Kept as a keyed hash.
        model: digest of the checkpoint.
        instance: SOP Instance UID that the caller named; empty for none. Kept as a keyed hash.
        job: id of the job whose item it was; empty for none.
    """

    id: str
    method: str
    route: str
    status: int
    reason: str = ""
    caller: str = ""
    model: str = ""
    instance: str = ""
    job: str = ""


@dataclass(frozen=True)
class Verdict:
    """What verifying one log has shown.

    Attributes:
        replica: whose log.
        events: how many lines are bound to each other, from the first on.
        head: hash of the last of them.
        complaint: what is wrong; empty where nothing is.
    """

    replica: str
    events: int
    head: str
    complaint: str


class AuditLog:
    """The log of one replica, which alone appends to it.

    Args:
        directory: made where absent.
        replica: name of this process.

    Raises:
        AuditError: it cannot be used, or another process appends to it.
    """

    def __init__(self, directory: Path, replica: str) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._key = _key(directory)
            self._path = directory / f"audit-{replica}.jsonl"
            self._head = self._path.with_suffix(".head")
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise AuditError("Another process appends to this replica's audit log.") from None
        except OSError:
            raise AuditError("The audit log cannot be opened.") from None
        self._observer = {"display": f"LLM-CXR {replica}"}
        self._sequence, self._previous = self._last()
        self._synced = -1

    def append(self, event: Event) -> None:
        """Add an event; it survives a kill of this process, and after `sync` one of the machine.

        Raises:
            OSError: it is not added.
        """
        resource = self._resource(event)
        line = json.dumps(resource, separators=(",", ":")).encode()
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line + b"\n")
            if written != len(line) + 1:
                raise OSError("short write")
        except OSError:
            # Half a line would break the chain.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise
        self._sequence += 1
        self._previous = _hash(self._key, line)

    def sync(self) -> None:
        """Bring the log to the disk, and note its length. Blocking."""
        sequence, previous = self._sequence, self._previous
        if sequence == self._synced:
            return
        os.fsync(self._file)
        replace(self._head, json.dumps({"sequence": sequence, "hash": previous}).encode())
        self._synced = sequence

    def close(self) -> None:
        """Bring it to the disk and close it."""
        with contextlib.suppress(OSError):
            self.sync()
        os.close(self._file)

    def _last(self) -> tuple[int, str]:
        """Where the chain goes on; half a line that a crash left is cut off."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            LOGGER.warning("half an audit event was cut off")
            os.ftruncate(self._file, whole)
        lines = data[:whole].split(b"\n")[:-1]
        return len(lines), _hash(self._key, lines[-1]) if lines else _FIRST

    def _resource(self, event: Event) -> dict[str, Any]:
        chain = [
            {"url": "sequence", "valueInteger": self._sequence + 1},
            {"url": "previous", "valueString": self._previous},
        ]
        resource: dict[str, Any] = {
            "resourceType": "AuditEvent",
            "id": event.id,
            "extension": [{"url": CHAIN, "extension": chain}],
            "type": _type(event),
            "subtype": [
                {"system": "urn:llmcxr:route", "code": f"{event.method} {event.route}".strip()}
            ],
            "action": _ACTIONS.get(event.method, "E"),
            "recorded": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "outcome": _outcome(event.status),
            "agent": [{"who": self._who(event.caller), "requestor": True}],
            "source": {"observer": self._observer},
        }
        if entities := list(self._entities(event)):  # FHIR knows no empty list
            resource["entity"] = entities
        if event.status >= 400 or not event.status:
            resource["outcomeDesc"] = f"{event.status} {event.reason}".strip()
        return resource

    def _who(self, caller: str) -> dict[str, Any]:
        if not caller:
            return {"display": "anonymous"}
        return {"identifier": {"system": "urn:llmcxr:caller", "value": self._hidden(caller)}}

    def _entities(self, event: Event) -> Iterator[dict[str, Any]]:
        if event.model:
            model = {"system": "urn:llmcxr:model", "value": event.model}
            yield {"what": {"identifier": model}, "type": _SYSTEM_OBJECT}
        if event.instance:
            instance = {"system": "urn:llmcxr:instance", "value": self._hidden(event.instance)}
            yield {"what": {"identifier": instance}}
        if event.job:
            job = {"system": "urn:llmcxr:job", "value": event.job}
            yield {"what": {"identifier": job}, "type": _SYSTEM_OBJECT}

    def _hidden(self, value: str) -> str:
        """The same for the same value, and of no use to whoever lacks the key."""
        return _hash(self._key, b"hidden\x1f" + value.encode())[:32]


def verify(directory: Path) -> list[Verdict]:
    """Check every replica's log. Blocking; it may go on growing meanwhile.

    Raises:
        AuditError: there is no log, or it cannot be read.
    """
    try:
        key = (directory / "key").read_bytes()
        paths = sorted(directory.glob("audit-*.jsonl"))
        verdicts = [_verify(key, path) for path in paths]
    except OSError:
        raise AuditError("There is no audit log to read here.") from None
    if not verdicts:
        raise AuditError("There is no audit log here.")
    return verdicts


def _verify(key: bytes, path: Path) -> Verdict:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    head_path = path.with_suffix(".head")
    head = json.loads(head_path.read_bytes()) if head_path.exists() else None
    previous, count, complaint = _FIRST, 0, ""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break  # it is being written, or a crash left it
            if _chain_of(line) != (count + 1, previous):
                complaint = f"event {count + 1} does not follow the one before it"
                break
            count, previous = count + 1, _hash(key, line[:-1])
            if head is not None and head["sequence"] == count and head["hash"] != previous:
                complaint = f"event {count} is not the one that was noted"
                break
    if not complaint and head is not None and head["sequence"] > count:
        complaint = f"there were {head['sequence']} events once, and are {count}"
    return Verdict(name.group(1), count, previous, complaint)


def _chain_of(line: bytes) -> tuple[int, str] | None:
    try:
        sequence, previous = json.loads(line)["extension"][0]["extension"]
        return int(sequence["valueInteger"]), str(previous["valueString"])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _type(event: Event) -> dict[str, str]:
    if event.method == STORE:
        return _RECEPTION
    return _ITEM if event.job else _REQUEST


def _outcome(status: int) -> str:
    """FHIR's audit-event-outcome: success, minor failure, serious failure."""
    if status and status < 400:
        return "0"
    return "8" if not status or status >= 500 else "4"


def _hash(key: bytes, data: bytes) -> str:
    return hmac.digest(key, data, hashlib.sha256).hex()


def _key(directory: Path) -> bytes:
    path = directory / "key"
    if not path.exists():
        write_once(path, secrets.token_bytes(32))
    return path.read_bytes()
