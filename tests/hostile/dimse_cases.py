"""Classes of hostile DIMSE: data sets of every other class, command sets, and broken PDUs.

Written byte by byte after PS3.7 (command sets) and PS3.8 (PDUs): a library would refuse to.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from pydicom.uid import UID
from tests.hostile.case import DEFLATED, MOST_BYTES, Dice, Pdus, Store, noisy_dicom, uid

DX = "1.2.840.10008.5.1.4.1.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
CALLED, CALLING = "GATEWAY", "ROUTER"
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"
RELEASE = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_CONTEXT = b"1.2.840.10008.3.1.1.1"
_SYNTAX = re.compile(rb"\x02\0\x10\0UI..([0-9.]+)", re.DOTALL)
_INSTANCE = re.compile(rb"\x08\0\x18\0UI..([0-9.]{3,64})", re.DOTALL)
_LONG = (b"OB", b"OW", b"UN", b"UT", b"SQ")
"""Representations of which the length takes four bytes."""


def files(kind: str, data: bytes, dice: Dice) -> Store:
    """A hostile file's data set under the transfer syntax that it claims; else all of its bytes."""
    syntax, start = EXPLICIT, _start(data)
    body = data[start:]
    claimed = _SYNTAX.search(data[:start])
    if claimed and claimed[1].decode() != DEFLATED:  # nobody would accept that one
        syntax = claimed[1].decode()
    found = _INSTANCE.search(data)
    instance = UID(found[1].decode()) if found else UID("")
    # Of nothing at all pynetdicom sends no fragment, and the receiver would wait for one.
    return Store(kind, body or b"\0\0", syntax, instance if instance.is_valid else uid(dice))


def _start(data: bytes) -> int:
    """Where the data set begins: behind the elements of group 2, whose stated length may lie."""
    if data[128:132] != b"DICM":
        return 0
    at = 132
    while data[at : at + 2] == b"\x02\0" and at + 12 <= len(data):
        form = ("<I", 8, 12) if data[at + 4 : at + 6] in _LONG else ("<H", 6, 8)
        at += struct.unpack_from(form[0], data, at + form[1])[0] + form[2]
    return min(at, len(data))


def item(kind: int, content: bytes, length: int | None = None) -> bytes:
    """A sub-item of an association's PDUs, whose length may lie."""
    size = len(content) if length is None else length
    return struct.pack(">BBH", kind, 0, size % 65_536) + content


def context(
    number: int = 1, abstract: bytes = DX.encode(), syntaxes: tuple[str, ...] = (EXPLICIT,)
) -> bytes:
    """A presentation context item."""
    transfer = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + transfer)


def user_information(more: bytes = b"") -> bytes:
    """A user information item."""
    plain = item(0x51, struct.pack(">L", 16_384)) + item(0x52, b"1.2.3.4")
    return item(0x50, plain + more)


def associate(
    items: bytes | None = None,
    *,
    called: bytes = CALLED.encode(),
    calling: bytes = CALLING.encode(),
    version: int = 1,
    length: int | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ; sound where nothing is changed."""
    if items is None:
        items = item(0x10, _CONTEXT) + context() + user_information()
    titles = called.ljust(16)[:16] + calling.ljust(16)[:16]
    body = struct.pack(">HH", version, 0) + titles + bytes(32) + items
    return pdu(1, body, length)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU, whose length may lie."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def pdata(*values: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF of values: context, message control header, fragment."""
    body = b"".join(
        struct.pack(">LBB", len(fragment) + 2, number, control) + fragment
        for number, control, fragment in values
    )
    return pdu(4, body)


def command(elements: Mapping[int, bytes]) -> bytes:
    """A command set of these elements of group 0 (implicit VR little endian), with its length."""
    body = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in sorted(elements.items())
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_command(dice: Dice, **changes: bytes | None) -> bytes:
    """A C-STORE-RQ's command set; keywords `e0100` change elements, None removes them."""
    elements: dict[int, bytes | None] = {
        0x0002: _even(DX),
        0x0100: struct.pack("<H", 1),
        0x0110: struct.pack("<H", dice.randrange(65_536)),
        0x0700: struct.pack("<H", 0),
        0x0800: struct.pack("<H", 1),
        0x1000: _even(uid(dice)),
    }
    elements |= {int(name[1:], 16): value for name, value in changes.items()}
    return command({number: value for number, value in elements.items() if value is not None})


def _even(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def association_requests(dice: Dice) -> Pdus:
    """A-ASSOCIATE-RQs whose items lie, lack or repeat."""
    noise = dice.randbytes(dice.randint(1, 300))
    name, last = item(0x10, _CONTEXT), user_information()
    good = associate()
    lie = dice.choice([0, 1, 65_535, dice.randrange(65_536)])
    requests = (
        good[: dice.randint(7, len(good) - 1)],
        associate(noise),
        associate(name + item(0x20, noise) + last),
        associate(name + item(0x20, bytes([1, 0, 0, 0]) + item(0x30, DX.encode(), lie)) + last),
        associate(name + item(0x20, bytes([1, 0, 0, 0]) + item(0x40, b"1.2", lie) + noise) + last),
        associate(name + context() + item(0x50, item(0x51, noise[:3]))),
        associate(name + context() + item(0x50, item(0x51, b"", lie) + noise)),
        associate(name + context() + item(0x50, item(0x52, noise * 9))),
        associate(name + context() + item(0x50, item(dice.randrange(0x53, 0x60), noise, lie))),
        associate(name + context() + user_information(item(0x54, noise))),
        associate(name + context() + user_information(item(0x56, struct.pack(">H", lie) + noise))),
        associate(name + context() + user_information(item(0x58, b"\x01\x00" + noise))),
        associate(item(0x10, noise) + context() + last),
        associate(name + item(dice.randrange(0x60, 0xFF), noise, lie)),
        associate(name + context(2) * dice.randint(1, 200) + last),
        associate(name + context(1, noise[:64]) + last),
        associate(name + context(1, DX.encode(), ("1." + "9" * dice.randint(70, 9000),)) + last),
    )
    return Pdus("association-requests", dice.choice(requests))


def titles(dice: Dice) -> Pdus:
    """Requests for others, by nobody, in another protocol's name, of SOP classes not taken."""
    word = dice.randbytes(7).hex().encode()
    name, last = item(0x10, _CONTEXT), user_information()
    requests = (
        associate(called=word),
        associate(called=b"\0" * 16, calling=word),
        associate(calling=b" " * 16, called=CALLED.lower().encode() + word[:4]),
        associate(calling=dice.randbytes(16), called=word),
        associate(item(0x10, b"1.2.840." + str(dice.getrandbits(60)).encode()) + context() + last),
        associate(name + context(1, b"1.2.840.10008.5.1.4.1.1." + word[:3]) + last),
        associate(name + context(1, DX.encode(), (DEFLATED,)) + last, calling=word),
        associate(name + last, calling=word),
        associate(version=dice.choice([0, 2, 4, 0x8000])) + word,
    )
    return Pdus("association-titles", dice.choice(requests))


def pdu_lengths(dice: Dice) -> Pdus:
    """PDUs that say they are longer or shorter than they are, before or in an association."""
    noise = dice.randbytes(dice.randint(1, 400))
    kind = dice.choice([1, 2, 3, 4, 5, 6, 7])
    lengths = (0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, dice.getrandbits(32), len(noise) + 1)
    data = pdu(kind, noise, dice.choice(lengths))
    return Pdus("pdu-lengths", data, associated=dice.random() < 0.6)


def pdu_types(dice: Dice) -> Pdus:
    """PDUs of no known type, or not at this time."""
    noise = dice.randbytes(dice.randint(0, 200))
    kind = dice.choice([0, *range(8, 256)])
    odd = (
        pdu(kind, noise),
        pdu(2, associate()[6:] + noise),
        pdu(3, bytes([0, *dice.choices(range(9), k=3)])),
        pdu(6, bytes(4)) + noise,
        associate() + noise,
        RELEASE + pdata((1, 3, store_command(dice))),
        pdata((1, 3, store_command(dice))),
    )
    choice = dice.randrange(len(odd))
    # The last two are what they should be, at the wrong time.
    return Pdus("pdu-types", odd[choice], associated=choice not in (4, 6))


def values(dice: Dice) -> Pdus:
    """Presentation data values of impossible lengths, contexts and flags."""
    noise = dice.randbytes(dice.randint(2, 300))
    sound = store_command(dice)
    lie = dice.choice([0, 1, 2**31, 2**32 - 1, dice.getrandbits(32)])
    bad = (
        pdu(4, b""),
        pdu(4, noise[:3]),
        pdu(4, struct.pack(">L", lie) + noise),
        pdu(4, struct.pack(">LBB", len(noise) + 2, 1, 3) + noise + struct.pack(">L", lie)),
        pdata((dice.choice([0, 2, 3, 255]), 3, sound)),
        pdata((1, dice.randrange(4, 256), sound + noise)),
        pdata((1, 3, sound), (3, 2, noise)),
        pdata((1, 2, noise)),
        pdata((1, 0, noise)) * dice.randint(2, 90),
        pdata(*[(1, 1, noise[:2])] * dice.randint(1100, 3000)),
        pdata((1, 3, sound), (1, 3, sound), (1, 2, noise)),
        pdata((1, 3, sound), (1, 2, noise)) * dice.randint(3, 30),
    )
    return Pdus("data-values", dice.choice(bad), associated=True)


def commands(dice: Dice) -> Pdus:
    """Command sets that are none, or ask for what is not offered."""
    word = dice.randbytes(dice.randint(2, 60)).hex().encode()
    number = struct.pack("<H", dice.randrange(65_536))
    other = struct.pack("<H", dice.choice([0x10, 0x20, 0x21, 0x30, 0x100, 0x110, 0x140, 0x150]))
    answer = struct.pack("<H", dice.choice([0x8001, 0x8010, 0x8020, 0x8030, 0xFFF, 0x7777]))
    sets = (
        word,
        struct.pack("<HHLL", 0, 0, 4, dice.getrandbits(32)) + word,
        struct.pack("<HHL", 0, 0x1000, 2**32 - 1) + word,
        store_command(dice, e0100=other, e0110=number),
        store_command(dice, e0100=answer),
        store_command(dice, e0100=None),
        store_command(dice, e0002=None),
        store_command(dice, e1000=None),
        store_command(dice, e0110=None, e0700=number),
        store_command(dice, e1000=word.ljust(90, b"x")),
        store_command(dice, e1000=b"1.2." + word + b"\0" * (len(word) % 2)),
        store_command(dice, e0002=_even("1.2.840.10008.5.1.4.31")),
        store_command(dice, e0002=word),
        store_command(dice, e0700=word, e0800=number),
        store_command(dice, e0800=struct.pack("<H", 0x0101)),
        store_command(dice, e1030=word, e1031=word),
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * dice.randint(2, 200) + word,
    )
    data = pdata((1, 3, dice.choice(sets)), (1, 2, dice.randbytes(dice.randint(0, 200))))
    return Pdus("command-sets", data, associated=True, waits=True)


def other_protocols(dice: Dice) -> Pdus:
    """What is meant for somebody else: HTTP, TLS, HL7, SMB, noise."""
    noise = dice.randbytes(dice.randint(1, 2000))
    word = noise[:30].hex().encode()
    starts = (
        noise,
        b"GET /" + word + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01" + struct.pack(">H", len(noise)) + b"\x01" + noise,
        b"\x0bMSH|^~\\&|" + word + b"\x1c\r",
        b"\0\0\0\x90\xffSMB" + noise,
        b"SSH-2.0-" + word + b"\r\n",
        bytes(len(noise)) + word,
        noisy_dicom(dice),
    )
    return Pdus("other-protocols", dice.choice(starts), associated=dice.random() < 0.3)


def large(dice: Dice) -> Store:
    """A data set over the limit."""
    return Store("large-data-sets", noisy_dicom(dice) + bytes(MOST_BYTES), EXPLICIT, uid(dice))


def renamed(dice: Dice) -> Store:
    """A sound data set that the command calls another instance."""
    data = files("", noisy_dicom(dice), dice).data
    return Store("renamed-instances", data, EXPLICIT, uid(dice))
