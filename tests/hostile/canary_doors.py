"""Canaries through STOW-RS, through pulls from an archive, and through DIMSE."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from tests.hostile import dimse_cases as dimse
from tests.hostile.case import Answer, Dice, Pdus, Store
from tests.hostile.identifiers import (
    CANARIES,
    CODE_ATTRIBUTES,
    Request,
    damaged,
    patient,
    with_headers,
)
from tests.hostile.other_cases import JSON
from tests.hostile.stow_cases import STUDIES

_ECHOED = re.compile(rb"\0\0(?:\x02\0|\0\x10)(.)\0\0\0", re.DOTALL)
"""Header of (0000,0002) and (0000,1000), Affected SOP Class and Instance UID, in a command set."""
_ACCEPT = 2
_TITLES = slice(10, 42)


def _received(dice: Dice, number: int, **changes: str) -> bytes:
    """A radiograph of its own: another would be recognised as received already."""
    return patient(dice, SOPInstanceUID=f"{CANARIES['SOPInstanceUID']}.{number}", **changes)


def _any_file(dice: Dice, number: int) -> bytes:
    kind = dice.randrange(4)
    if kind == 0:
        return damaged(dice)
    if kind == 1:
        name = dice.choice(CODE_ATTRIBUTES)
        return _received(dice, number, **{name: CANARIES[name]})
    return _received(dice, number)


def stow(number: int, dice: Dice) -> Request:
    """The next STOW-RS request."""
    boundary = CANARIES["boundary"]
    kinds = ("file", "file", "file", "part-type", "study", "path", "media-type", "cut", "framing")
    kind = kinds[number % len(kinds)]
    part_type = f"image/{CANARIES['part-type']}" if kind == "part-type" else "application/dicom"
    line = b"--" + boundary.encode()
    head = f"\r\nContent-Type: {part_type}\r\nX-{CANARIES['part-type']}: 1\r\n\r\n".encode()
    body = line + head + _any_file(dice, number) + b"\r\n" + line + b"--\r\n"
    media_type, path = f'multipart/related; type="application/dicom"; boundary={boundary}', STUDIES
    if kind == "study":
        path = f"{STUDIES}/{CANARIES['path-UID']}"
    elif kind == "path":
        path = f"{STUDIES}/{CANARIES['path']}"
    elif kind == "media-type":
        media_type = f'multipart/related; type="{CANARIES["part-type"]}"; boundary={boundary}'
    elif kind == "cut":
        body = body[: dice.randrange(len(body) - 4)]
    elif kind == "framing":
        body = line + b"\r\n" + CANARIES["PatientName"].encode() + b"\r\n\r\n" + body
    accept = CANARIES["PatientID"] if dice.random() < 0.05 else "application/dicom+json"
    return with_headers(Request(body, path, {"Content-Type": media_type, "Accept": accept}))


def pull(number: int, dice: Dice) -> tuple[Request, Answer | None]:
    """The next request for an instance in an archive, and what the archive answers."""
    word, header = CANARIES["archive-body"].encode(), CANARIES["archive-header"]
    instance = f"{CANARIES['SOPInstanceUID']}.{number}"
    # One series for each request: by it the archive knows what to answer.
    named = {"source": "hostile", "study": CANARIES["StudyInstanceUID"],
             "series": f"{CANARIES['SeriesInstanceUID']}.{number}",
             "instance": instance}  # fmt: skip
    sound = patient(dice, SOPInstanceUID=instance)
    answers = (
        _http(sound, "application/dicom"),
        _http(damaged(dice), "application/dicom"),
        _http(_received(dice, number + 1), "application/dicom"),
        _http(word, f"text/{header}"),
        _http(word, "text/html", f"{dice.choice([400, 401, 403, 404, 500, 503])} {header}"),
        _http(b"", "text/html", f"302 Found\r\nLocation: http://127.0.0.1:1/{header}"),
        _http(word, f'multipart/related; type="application/dicom"; boundary={header}'),
        word + b" is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + header.encode() + b"\r\n\r\n" + word,
    )
    kind = number % (len(answers) + 2)
    more: dict[str, Any] = {}
    if kind == len(answers):
        named["source"] = CANARIES["source-name"]
    elif kind == len(answers) + 1:
        more = {CANARIES["json-key"]: word.decode(), "indication": CANARIES["indication"] + "\0"}
    text = json.dumps({"dicomweb": named, **more}).encode()
    made = with_headers(Request(text, "/generate-report", {"Content-Type": JSON}))
    return made, Answer(answers[kind]) if kind < len(answers) else None


def _http(body: bytes, media_type: str, status: str = "200 OK") -> bytes:
    header = CANARIES["archive-header"]
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        f"X-{header}: {header}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def store(number: int, dice: Dice) -> Store | Pdus:
    """The next C-STORE request, association or PDU."""
    if number % 3:
        return dimse.files("", _any_file(dice, number), dice)
    name = dimse.item(0x10, b"1.2.840.10008.3.1.1.1")
    who, word = CANARIES["user-identity"].encode(), CANARIES["PDU"].encode()
    calling = CANARIES["calling-ae"].encode()
    user = dimse.item(0x58, b"\x01\x00" + struct.pack(">H", len(who)) + who + b"\0\0")
    items = name + dimse.context() + dimse.user_information(user)
    kinds = (
        Pdus("", dimse.associate(called=CANARIES["called-ae"].encode(), calling=calling)),
        Pdus("", dimse.associate(items, calling=calling), waits=True),
        Pdus("", dimse.associate(name + dimse.context(1, word), calling=word)),
        Pdus("", dimse.pdu(1, word * 9)),
        Pdus("", dimse.pdu(4, word * 9), associated=True),
        Pdus("", dimse.pdata((1, 3, word)), associated=True, waits=True),
        _command(dice, e1000=word + b"\0" * (len(word) % 2)),
        _command(dice, e0002=word + b"\0" * (len(word) % 2)),
        _command(dice, e0100=b"\x20\0", e1030=word),
        Pdus("", word + b"\r\n\r\n"),
    )
    return kinds[number // 3 % len(kinds)]


def _command(dice: Dice, **changes: bytes) -> Pdus:
    command = dimse.store_command(dice, **changes)
    data = dimse.files("", patient(dice), dice).data
    return Pdus("", dimse.pdata((1, 3, command), (1, 2, data)), associated=True, waits=True)


def without_what_is_meant(answer: dict[str, Any]) -> dict[str, Any]:
    """A STOW-RS answer without the UIDs that it must name (PS3.3, C.12.1.1.3)."""
    items = (item for element in answer.values() for item in element.get("Value", []))
    for item in items:
        for tag in ("00081150", "00081155"):
            item.pop(tag, None)
    return answer


def pdu_without_what_is_meant(pdu: bytes) -> bytes:
    """A PDU without what it must repeat: both AE titles (PS3.8, 9.3.3), and the UIDs of the
    instance that a C-STORE answer is about (PS3.7, 9.1.1)."""
    if pdu[0] == _ACCEPT:
        return pdu[: _TITLES.start] + pdu[_TITLES.stop :]
    for found in reversed(list(_ECHOED.finditer(pdu))):
        pdu = pdu[: found.end()] + pdu[found.end() + found[1][0] :]
    return pdu


def rude_archive(note: Callable[[bytes], None]) -> Starlette:
    """An archive to deliver to, which refuses everything, and quotes patients in doing so.

    Args:
        note: told what it says.
    """
    word, header = CANARIES["destination-body"], CANARIES["archive-header"]
    # Refusals of one object alone say nothing against an archive; after others it has a rest.
    statuses = (*[400] * 20, 409, *[400] * 20, 500)
    count = 0

    async def refuse(_: HttpRequest) -> Response:
        nonlocal count
        count += 1
        status = statuses[count % len(statuses)]
        text = f"{word} {CANARIES['PatientName']}"
        note(text.encode())
        return Response(text, status, headers={f"X-{header}": word})

    return Starlette(routes=[Route("/{path:path}", refuse, methods=["GET", "POST"])])
