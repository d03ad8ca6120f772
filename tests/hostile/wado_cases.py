"""Classes of hostile archives, and of requests that name an instance in one."""

from __future__ import annotations

import json
import re
import struct

from tests.hostile.case import Answer, Case, Dice, noisy_dicom, uid
from tests.hostile.other_cases import JSON

REPORT = "/generate-report"
_UID = re.compile(rb"\x08\0\x18\0UI..([0-9.]{3,64})", re.DOTALL)
_PART = b"Content-Type: application/dicom\r\n\r\n"


def files(kind: str, data: bytes, dice: Dice) -> Case:
    """A hostile file as a well-formed answer to who asks for it."""
    found = _UID.search(data)
    instance = found[1].decode() if found else uid(dice)
    if dice.random() < 0.3:
        return _pull(kind, dice, Answer(_response(data, "application/dicom")), instance=instance)
    return _pull(kind, dice, Answer(_response(*_related(dice, [_PART + data]))), instance=instance)


def _pull(
    kind: str, dice: Dice, answer: Answer | None, *, source: str = "hostile", instance: str = ""
) -> Case:
    named = {"source": source, "study": uid(dice), "series": uid(dice)}
    named["instance"] = instance or uid(dice)
    text = json.dumps({"dicomweb": named}).encode()
    return Case(kind, text, REPORT, {"Content-Type": JSON}, answer=answer)


def _related(dice: Dice, parts: list[bytes]) -> tuple[bytes, str]:
    boundary = dice.randbytes(8).hex()
    line = b"--" + boundary.encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"
    return body, f'multipart/related; type="application/dicom"; boundary={boundary}'


def _response(body: bytes, media_type: str, status: str = "200 OK", headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + body


def framing(dice: Dice) -> Case:
    """Answers that are no multipart/related of one DICOM instance."""
    noise = dice.randbytes(dice.randint(1, 300))
    good = _PART + noisy_dicom(dice)
    body, media_type = _related(dice, [good])
    line = b"--" + media_type[-16:].encode()
    choices: tuple[tuple[bytes, str], ...] = (
        (body[: dice.randint(0, len(body) - 5)], media_type),
        _related(dice, []),
        _related(dice, [good, good]),
        _related(dice, [good] + [_PART + noise] * dice.randint(1, 50)),
        _related(dice, [_PART] * dice.randint(2, 100_000)),
        (body, media_type[:-16] + dice.randbytes(8).hex()),
        (body, media_type.replace("application/dicom", "application/dicom+json")),
        (body, media_type.split("; boundary")[0]),
        (body, f"{media_type[:-16]}{'y' * dice.randint(71, 2000)}"),
        (body.replace(b"\r\n", b"\n", 3), media_type),
        (line + b"\r\n" + b"X: 1\r\n" * dice.randint(17, 3000) + b"\r\n" + line, media_type),
        (noise, media_type),
        (noise, "application/dicom"),
        (b"<html>" + noise.hex().encode(), "text/html"),
        (json.dumps([noise.hex()]).encode(), "application/dicom+json"),
        (noise, ""),
        (noise, "\xff\xfe\xfd/" + "z" * dice.randint(1, 90)),
    )  # fmt: skip
    return _pull("archive-framing", dice, Answer(_response(*dice.choice(choices))))


_STATUSES = ("201 Created", "202 Accepted", "204 No Content", "206 Partial Content",
             "300 Choices", "304 Not Modified", "400 Bad", "401 Who", "403 No", "404 Gone",
             "406 No", "410 Gone", "418 Tea", "429 Slow", "500 Broken", "501 No", "502 Bad",
             "503 Busy", "504 Late", "599 Odd", "999 Odd", "301 Moved", "302 Moved",
             "307 Moved", "308 Moved")  # fmt: skip


def statuses(dice: Dice) -> Case:
    """Every status but 200 with a sound body; redirects to elsewhere, which are not followed."""
    status = dice.choice(_STATUSES)
    body, media_type = _related(dice, [_PART + noisy_dicom(dice)])
    headers = ""
    if status.startswith("3"):
        to = ("http://127.0.0.1:1/", "file:///etc/passwd", "//evil.example/", "\x01\x02")
        headers = f"Location: {dice.choice(to)}{dice.randbytes(4).hex()}\r\n"
    answer = Answer(_response(body, media_type, f"{status} {dice.randbytes(3).hex()}", headers))
    return _pull("archive-statuses", dice, answer)


def broken_http(dice: Dice) -> Case:
    """Answers that are no HTTP, or lie about their length, coding or chunks."""
    word = dice.randbytes(dice.randint(2, 60))
    body, media_type = _related(dice, [_PART + noisy_dicom(dice)])
    text = word.hex().encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    choices = (
        Answer(),
        Answer(then="reset"),
        Answer(word),
        Answer(word, then="reset"),
        Answer(b"HTTP/9.9 200 OK\r\n\r\n" + body),
        Answer(b"HTTP/1.1 " + text + b"\r\n\r\n" + body),
        Answer(b"HTTP/1.1 200 OK\r\n" + b"X: " + text * dice.randint(5000, 9000) + b"\r\n\r\n"),
        Answer(b"HTTP/1.1 200 OK\r\nX\x00Y: " + word + b"\r\n\r\n" + body),
        Answer(head + b"Content-Length: -" + str(len(text)).encode() + b"\r\n\r\n" + body),
        Answer(head + b"Content-Length: " + text + b"\r\n\r\n" + body),
        Answer(head + b"Content-Length: 99999999\r\n\r\n" + body + word),
        Answer(head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + body + word),
        Answer(head + f"Content-Length: {dice.randint(1, 60)}\r\n\r\n".encode() + body),
        Answer(chunked + text + b"\r\n" + body),
        Answer(chunked + b"%x\r\n" % len(body) + body[: dice.randint(1, len(body) - 1)]),
        Answer(chunked + b"f" * dice.randint(17, 4000) + b"\r\n" + body),
        Answer(head + b"Transfer-Encoding: " + text + b"\r\n\r\n" + body),
        Answer(head + b"Content-Encoding: gzip\r\n\r\n" + b"\x1f\x8b" + word),
        Answer(head + b"Content-Encoding: deflate, br, zstd\r\n\r\n" + word),
        Answer(b"HTTP/1.1 100 Continue\r\n\r\n" * dice.randint(2, 500) + word),
        Answer(b"220 mail.example ESMTP " + text + b"\r\n"),
        Answer(b"\x16\x03\x01" + struct.pack(">H", len(word)) + word),
    )
    return _pull("archive-http", dice, dice.choice(choices))


def endless(dice: Dice) -> Case:
    """Answers without end: one part, a preamble, tiny parts, chunks, headers."""
    boundary = dice.randbytes(8).hex()
    line = b"--" + boundary.encode()
    media_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n".encode()
    noise = dice.randbytes(16_384)
    tiny = (line + b"\r\n" + _PART + b"\r\n") * 300
    sound = noisy_dicom(dice)
    chunk = b"4000\r\n" + noise + b"\r\n"
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n"
    choices = (
        Answer(head + b"\r\n" + line + b"\r\n" + _PART + sound, "endless", noise),
        Answer(head + b"\r\n", "endless", noise),
        Answer(head + b"\r\n", "endless", tiny),
        Answer(head + b"\r\n", "endless", (line + b"\r\n\r\n\r\n") * 1000),
        Answer(head + b"\r\n" + line + b"\r\n", "endless", b"X: a\r\n" * 2000),
        Answer(head + b"Transfer-Encoding: chunked\r\n\r\n", "endless", chunk),
        Answer(head + b"Transfer-Encoding: chunked\r\n\r\n", "endless", b"1\r\na\r\n" * 2000),
        Answer(plain + b"\r\n" + sound, "endless", noise),
        Answer(plain + b"Content-Length: 99999999999\r\n\r\n" + sound, "endless", noise),
        Answer(b"HTTP/1.1 200 OK\r\n", "endless", b"X-" + boundary.encode() + b": a\r\n"),
        Answer(b"HTTP/1.1 100 Continue\r\n\r\n", "endless", b"HTTP/1.1 100 Go\r\n\r\n" * 500),
        Answer(b"", "endless", noise),
    )
    return _pull("archive-endless", dice, dice.choice(choices))


def silence(dice: Dice) -> Case:
    """Archives that say nothing, stop in the middle, or give one byte at a time."""
    body, media_type = _related(dice, [_PART + noisy_dicom(dice)])
    whole = _response(body, media_type)
    word = dice.randbytes(4).hex().encode()
    choices = (
        Answer(b"", "silence"),
        Answer(whole[: dice.randint(1, 60)], "silence"),
        Answer(whole[: dice.randint(200, len(whole) - 5)], "silence"),
        Answer(whole[: dice.randint(200, 900)], "drip", b"\0"),
        Answer(b"HTTP/1.1 200 OK\r\nX: ", "drip", word),
    )
    return _pull("archive-silence", dice, dice.choice(choices), source="slow")


def other_instances(dice: Dice) -> Case:
    """Sound radiographs that are not the one that was asked for, or do not say which they are."""
    data = noisy_dicom(dice)
    if dice.random() < 0.5:
        mark = uid(dice)
        data = noisy_dicom(dice, **{dice.choice(["SOPInstanceUID", "StudyInstanceUID"]): mark})
        wrong = dice.choice([b"", b"nonsense", b"1..2", mark.encode()[:-1] + b"."])
        data = data.replace(mark.encode(), wrong.ljust(35, b"\0"))
    return _pull("archive-others", dice, Answer(_response(data, "application/dicom")))


def requests(dice: Dice) -> Case:
    """Pulls that do not fit their schema, or name an archive that is not there."""
    word = dice.randbytes(dice.randint(2, 30)).hex()
    digits = "".join(dice.choices("123456789", k=70))
    named: dict[str, object] = {"source": "hostile", "study": uid(dice), "series": uid(dice),
                                "instance": uid(dice)}  # fmt: skip
    field = dice.choice(["study", "series", "instance"])
    some = digits[:8]
    bad = (word, f"1.{digits}", f"01.{some}", f"1.2/../{some}", f"1.{some}?a=b", 1, None,
           [uid(dice)], f"1.2%2f{some}", f"1.{some}\r\nX: y", "")  # fmt: skip
    kind = dice.randrange(5)
    more: dict[str, object] = {}
    if kind == 0:
        named[field] = dice.choice(bad)
    elif kind == 1:
        named["source"] = dice.choice(["a" + word[:20], "", "http://127.0.0.1:1/", None, "pacs\0"])
    elif kind == 2:
        del named[field]
    elif kind == 3:
        named[word] = more[word] = 1
    else:
        more = {"seed": -1, "n": 99, "indication": word * 4000}
    text = json.dumps({"dicomweb": named, **more}).encode()
    return Case("pull-requests", text, REPORT, {"Content-Type": JSON})
