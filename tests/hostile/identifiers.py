"""Canaries, more than fifty, and uploads that carry them where a patient's identity may stand."""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass, field

from PIL import Image, PngImagePlugin
from tests.hostile.case import Dice, noise, noisy_dicom

TEXT_ATTRIBUTES = (
    "PatientName", "PatientID", "OtherPatientNames", "IssuerOfPatientID", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "Occupation", "EthnicGroup",
    "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription",
    "ReferringPhysicianName", "OperatorsName", "InstitutionName", "StationName", "ProtocolName",
    "ImageComments", "PatientComments", "DeviceSerialNumber",
)  # fmt: skip
CODE_ATTRIBUTES = ("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation")
UID_ATTRIBUTES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
OTHERS = (
    "PatientBirthDate", "TransferSyntaxUID", "preamble", "malformed-number",
    "png-text", "jpeg-comment", "form-file-name", "form-field-name", "form-field-value",
    "indication", "question", "part-header", "query-name", "query-value", "path", "user-agent",
    "authorization", "cookie", "request-id", "header-name", "json-key",
)  # fmt: skip
OF_OTHER_DOORS = (
    "boundary", "part-type", "path-UID", "source-name", "archive-body", "archive-header",
    "destination-body", "calling-ae", "called-ae", "user-identity", "PDU",
)  # fmt: skip
NAMES = (*TEXT_ATTRIBUTES, *CODE_ATTRIBUTES, *UID_ATTRIBUTES, *OTHERS, *OF_OTHER_DOORS)


def _canary(name: str) -> str:
    dice = random.Random(f"canary/{name}")
    if name.endswith("UID"):
        return "1.2.826.0.77." + "".join(dice.choices("123456789", k=14))
    if name == "PatientBirthDate":
        return f"18{dice.randint(50, 99)}{dice.randint(10, 12)}{dice.randint(10, 28)}"
    if name == "malformed-number":
        return "7Q" + "".join(dice.choices("123456789", k=10))
    return "ZQ" + "".join(dice.choices("BCDFGHJKLMNPQRSTVWXZ", k=11))


CANARIES = {name: _canary(name) for name in NAMES}


def core(canary: str) -> str:
    """What is looked for: the part that is by chance nowhere else."""
    return canary.removeprefix("1.2.826.0.77.")


@dataclass(frozen=True)
class Request:
    """One request with canaries in it."""

    content: bytes = b""
    path: str = "/generate-report"
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


def request(number: int, dice: Dice) -> Request:
    """The next upload; every kind comes in turn, and always with canaries in its headers."""
    kinds = (_sound, _damaged, _codes, _syntax, _number, _png, _jpeg, _form, _bad_form, _question,
             _query, _private_query, _path, _json, _text, _media_type, _long)  # fmt: skip
    return with_headers(kinds[number % len(kinds)](dice))


def with_headers(made: Request) -> Request:
    """The same request with canaries in its headers."""
    headers = {
        "User-Agent": CANARIES["user-agent"],
        "Authorization": f"Bearer {CANARIES['authorization']}",
        "Cookie": f"patient={CANARIES['cookie']}",
        "X-Request-ID": CANARIES["request-id"],
        f"X-{CANARIES['header-name']}": "1",
    }
    return Request(made.content, made.path, headers | made.headers, made.params, made.method)


def patient(dice: Dice, **changes: str) -> bytes:
    """A sound radiograph with a canary in every attribute that may hold one."""
    attributes = {name: CANARIES[name] for name in (*TEXT_ATTRIBUTES, *UID_ATTRIBUTES)}
    attributes["PatientBirthDate"] = CANARIES["PatientBirthDate"]
    data = noisy_dicom(dice, **{**attributes, **changes})
    return CANARIES["preamble"].encode().ljust(128, b"\0") + data[128:]


def _raw(content: bytes, **params: str) -> Request:
    path = "/generate-report" if len(content) % 2 else "/reconstruct"
    return Request(content, path, {"Content-Type": "application/dicom"}, params)


def _sound(dice: Dice) -> Request:
    return _raw(patient(dice), **({} if dice.random() < 0.5 else {"seed": "x"}))


def _damaged(dice: Dice) -> Request:
    return _raw(damaged(dice))


def damaged(dice: Dice) -> bytes:
    """A file with wrong bytes, and often not to its end."""
    data = bytearray(patient(dice))
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(132, len(data))] = dice.randrange(256)
    return bytes(data[: dice.randint(len(data) // 3, len(data))])


def _codes(dice: Dice) -> Request:
    name = dice.choice(CODE_ATTRIBUTES)
    return _raw(patient(dice, **{name: CANARIES[name]}))


def _syntax(dice: Dice) -> Request:
    data = patient(dice)
    value = CANARIES["TransferSyntaxUID"]
    old = b"UI\x14\x001.2.840.10008.1.2.1\0"
    new = b"UI" + (len(value) + len(value) % 2).to_bytes(2, "little") + value.encode()
    return _raw(data.replace(old, new + b"\0" * (len(value) % 2), 1))


def _number(dice: Dice) -> Request:
    word = CANARIES["malformed-number"]
    stand_in = "9" * len(word)
    data = patient(dice, WindowCenter=stand_in)
    return _raw(data.replace(stand_in.encode(), word.encode(), 1))


def _png(dice: Dice) -> Request:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", CANARIES["png-text"])
    buffer = io.BytesIO()
    Image.fromarray(noise(dice)).save(buffer, "PNG", pnginfo=notes)
    return _cut(buffer.getvalue(), dice)


def _jpeg(dice: Dice) -> Request:
    buffer = io.BytesIO()
    Image.fromarray(noise(dice)).save(buffer, "JPEG", comment=CANARIES["jpeg-comment"])
    return _cut(buffer.getvalue(), dice)


def _cut(data: bytes, dice: Dice) -> Request:
    return _raw(data if dice.random() < 0.5 else data[: len(data) // 2])


def _parts(parts: list[tuple[str, bytes]], path: str) -> Request:
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return Request(body + b"--b--\r\n", path, headers)


def _file(dice: Dice) -> tuple[str, bytes]:
    extra = f"\r\nX-Patient: {CANARIES['part-header']}"
    return f'name="file"; filename="{CANARIES["form-file-name"]}.dcm"{extra}', patient(dice)


def _form(dice: Dice) -> Request:
    indication = CANARIES["indication"] + dice.choice([" cough", "\x07", " x" * 20_000])
    return _parts([_file(dice), ('name="indication"', indication.encode())], "/generate-report")


def _bad_form(dice: Dice) -> Request:
    name = dice.choice(["seed", CANARIES["form-field-name"]])
    value = CANARIES["form-field-value"].encode()
    parts = [_file(dice), (f'name="{name}"', value)]
    return _parts(parts if dice.random() < 0.7 else parts[::-1] + parts, "/generate-report")


def _question(dice: Dice) -> Request:
    question = CANARIES["question"] + dice.choice(["?", "\0", "?" * 100_000])
    return _parts([_file(dice), ('name="question"', question.encode())], "/answer-question")


def _query(dice: Dice) -> Request:
    made = _raw(patient(dice))
    return Request(
        made.content,
        made.path,
        made.headers,
        {CANARIES["query-name"]: "1"} if dice.random() < 0.5 else {"seed": CANARIES["query-value"]},
    )


def _private_query(dice: Dice) -> Request:
    return _raw(patient(dice), indication=CANARIES["query-value"])


def _path(dice: Dice) -> Request:
    method = dice.choice(["GET", "POST", "DELETE", "PUT"])
    return Request(path=f"/studies/{CANARIES['path']}", method=method)


def _json(dice: Dice) -> Request:
    words = CANARIES["json-key"], CANARIES["PatientName"]
    bodies = (
        {"report": f"Findings of {words[1]}."},
        {"report": words[1], words[0]: words[1]},
        {"report": [words[1]], words[0]: [words[0]]},
        {"report": words[1], "seed": words[1]},
        {"report": words[1] + "\0"},
        {"report": words[1] * 5000},
    )
    text = json.dumps(dice.choice(bodies)).encode()
    path = "/generate-image"
    return Request(text[: -dice.randrange(3) or None], path, {"Content-Type": "application/json"})


def _text(dice: Dice) -> Request:
    content = CANARIES["PatientName"].encode() + dice.choice([b"", b"\xff", b"\x1b[31m"])
    return Request(content, "/generate-image", {"Content-Type": "text/plain"})


def _media_type(dice: Dice) -> Request:
    word = CANARIES["PatientID"]
    headers = dice.choice(
        [{"Content-Type": f"application/{word}"}, {"Accept": f"application/{word}"}]
    )
    return Request(patient(dice), headers=headers)


def _long(dice: Dice) -> Request:
    word = CANARIES["PatientName"].encode()
    return Request(word * 200_000, "/generate-image", {"Content-Type": "text/plain"})


def malformed() -> list[bytes]:
    """What is no HTTP, with canaries in it."""
    word = CANARIES["PatientName"].encode()
    return [
        word + b"\r\n\r\n",
        b"GET /" + word + b" HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + word + b"\r\n\r\n",
        b"POST /generate-report HTTP/1.1\r\nHost: a\r\nContent-Length: " + word + b"\r\n\r\n",
        b"GET /" + word + b"\x00 HTTP/1.1\r\nHost: " + word + b"\r\n\r\n",
        b"POST /generate-report HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + word + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + word * 9000 + b"\r\n\r\n",
    ]
