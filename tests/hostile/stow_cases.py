"""Classes of hostile STOW-RS requests: bad framing, types, parts and identities."""

from __future__ import annotations

from collections.abc import Sequence

from tests.hostile.case import DEFLATED, MOST_BYTES, Case, Dice, in_syntax, noisy_dicom, uid

STUDIES = "/dicom-web/studies"
_PART = b"Content-Type: application/dicom\r\n\r\n"


def files(kind: str, data: bytes, dice: Dice) -> Case:
    """A hostile file as a well-formed request; now and then with one more that is none."""
    parts = [data]
    if dice.random() < 0.2:
        parts.insert(dice.randrange(2), dice.randbytes(dice.randint(0, 300)))
    return _case(kind, dice, [_PART + part for part in parts])


def _case(kind: str, dice: Dice, parts: Sequence[bytes], path: str = STUDIES) -> Case:
    boundary = dice.randbytes(8).hex()
    return Case(kind, _framed(boundary, parts), path, _headers(boundary))


def _framed(boundary: str, parts: Sequence[bytes]) -> bytes:
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _headers(boundary: str) -> dict[str, str]:
    value = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return {"Content-Type": value, "Accept": "application/dicom+json"}


def framing(dice: Dice) -> Case:
    """Bodies that are cut off, nested, of another boundary, or full of headers."""
    boundary = dice.randbytes(8).hex()
    line = b"--" + boundary.encode()
    noise = dice.randbytes(dice.randint(1, 400))
    whole = _framed(boundary, [_PART + noise])
    bodies = (
        whole[: dice.randint(1, len(whole) - 4)],
        b"",
        noise,
        whole.replace(line, b"--" + dice.randbytes(8).hex().encode()),
        whole.replace(b"\r\n", b"\n"),
        line + b"--\r\n" + noise,
        line + b"\r\nNo colon " + noise.hex().encode() + b"\r\n\r\na\r\n" + line + b"--\r\n",
        line + b"\r\n" + _many_headers(dice) + b"\r\na\r\n" + line + b"--\r\n",
        line + b"\r\nX: " + b"a" * dice.randint(1100, 90_000) + b"\r\n\r\na\r\n" + line + b"--",
        line + b"\r\nContent-Type: \xff\xfe" + noise + b"\r\n\r\na\r\n" + line + b"--\r\n",
        line * dice.randint(2, 2000),
        whole[:-4] + noise,
    )  # fmt: skip
    headers = _headers(boundary)
    if dice.random() < 0.2:
        related = 'multipart/related; type="application/dicom"'
        odd = (f"{related}; boundary={'x' * dice.randint(71, 900)}", related,
               f'{related}; boundary=""', f"{related}; boundary*=utf-8''{boundary}",
               f"{related}; boundary={boundary[:8]}")  # fmt: skip
        headers["Content-Type"] = dice.choice(odd)
    return Case("stow-framing", dice.choice(bodies), STUDIES, headers)


def _many_headers(dice: Dice) -> bytes:
    return b"".join(b"X-%d: a\r\n" % number for number in range(dice.randint(17, 400)))


def types(dice: Dice) -> Case:
    """Media types that are none of STOW-RS's binary form, of the body, its parts or the answer."""
    word = dice.randbytes(dice.randint(1, 20)).hex()
    boundary = dice.randbytes(8).hex()
    headers, part = _headers(boundary), _PART
    kind = dice.randrange(4)
    if kind == 0:
        bodies = (f"application/{word}", "application/dicom", "text/plain", "",
                  f"multipart/form-data; boundary={boundary}",
                  f"multipart/mixed; boundary={boundary}")  # fmt: skip
        headers["Content-Type"] = dice.choice(bodies)
    elif kind == 1:
        wanted = dice.choice(["application/dicom+json", "application/dicom+xml", word])
        headers["Content-Type"] = f'multipart/related; type="{wanted}"; boundary={boundary}'
    elif kind == 2:
        headers["Accept"] = dice.choice([f"application/{word}", "text/html", "application/pdf"])
    else:
        wanted = dice.choice([f"image/{word}", "text/html", "application/dicom+json", "\u00b5/x"])
        part = b"Content-Type: " + wanted.encode() + b"\r\n\r\n"
    data = noisy_dicom(dice)
    return Case("stow-types", _framed(boundary, [part + data]), STUDIES, headers)


def parts(dice: Dice) -> Case:
    """Too many parts, none, empty ones, ones over the limit, many bad ones."""
    several = dice.randint(2, 40)
    kind = dice.randrange(8)
    if kind == 0:
        size = MOST_BYTES + dice.randint(1, 1000)
        return _case("stow-parts", dice, [_PART + noisy_dicom(dice) + bytes(size)])
    choices: tuple[list[bytes], ...] = (
        [_PART] * dice.randint(501, 3000),
        [],
        [_PART] * several,
        [_PART + dice.randbytes(dice.randint(1, 200)) for _ in range(several)],
        [_PART + bytes(128) + b"DICM" + dice.randbytes(60) for _ in range(several)],
        [b"\r\n" + dice.randbytes(200)] * several,
        [_PART + noisy_dicom(dice)[: dice.randint(140, 300)] for _ in range(3)],
    )
    return _case("stow-parts", dice, choices[kind - 1])


def identities(dice: Dice) -> Case:
    """Files whose UIDs are missing, malformed or others than the URL's."""
    word = dice.randbytes(12).hex()
    digits = "".join(dice.choices("123456789", k=70))
    some = digits[:9]
    malformed = ("", word, f"1.{some}..2", f"01.{some}", f"{some}.", f"1.2.{some}\u00e9",
                 "../" + word, f"1.{some}\\2.{digits[9:19]}")  # fmt: skip
    name = dice.choice(["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
    kind = dice.randrange(5)
    path = STUDIES
    if kind == 0:
        data = _with(dice, name, dice.choice(malformed))
    elif kind == 1:
        data, path = noisy_dicom(dice), f"{STUDIES}/{uid(dice)}"
    elif kind == 2:
        names = (word, f"1.{digits}", f"01.{digits[:9]}", f"1.{digits[:9]}.", "%2e%2e", "1%0a2")
        data, path = noisy_dicom(dice), f"{STUDIES}/{dice.choice(names)}"
    elif kind == 3:
        data = noisy_dicom(dice, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{dice.choice('24679')}")
    else:
        data = in_syntax(noisy_dicom(dice), dice.choice([DEFLATED, f"1.2.{digits[:20]}", "1.2.3"]))
    return _case("stow-identities", dice, [_PART + data], path)


def _with(dice: Dice, name: str, value: str) -> bytes:
    """A file in which a UID of 35 characters is other bytes; pydicom would warn or refuse."""
    mark = uid(dice)
    data = noisy_dicom(dice, **{name: mark})
    return data.replace(mark.encode(), value.encode()[:35].ljust(35, b"\0"))
