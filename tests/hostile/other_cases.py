"""Classes of hostile pictures, documents and requests, bad by construction."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

from PIL import Image
from tests.hostile.case import PNG_SIGNATURE, Case, Dice, chunk, ihdr, noise, noisy_picture

JSON = "application/json"


def png_bomb(dice: Dice) -> bytes:
    """A header of some hundred megapixels; in a third of them the pixels are there."""
    width, height = dice.randint(9_000, 2**31 - 1), dice.randint(9_000, 2**31 - 1)
    pixels = zlib.compress(bytes(dice.choice([100, 10_000, 4_000_000])), 9)
    name = b"tEXt"
    return (
        PNG_SIGNATURE
        + ihdr(width, height)
        + chunk(name, b"k\0" + dice.randbytes(4).hex().encode())
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def png_truncated(dice: Dice) -> bytes:
    data = noisy_picture(dice, "PNG")
    return data[: dice.randint(8, len(data) - 60)]


def png_flipped(dice: Dice) -> bytes:
    """Bits of the header or of the pixels turned; a checksum says so."""
    data = bytearray(noisy_picture(dice, "PNG"))
    first = 8 + 8 if dice.random() < 0.2 else 33 + 8
    last = 8 + 8 + 13 if first == 16 else len(data) - 12 - 4
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(first, last)] ^= 1 << dice.randrange(8)
    return bytes(data)


def png_structure(dice: Dice) -> bytes:
    """Chunks that are missing, twice, in the wrong order, or bombs of compressed text."""
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise(dice)))
    head, data, end = ihdr(48, 48), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    structures = (
        data + end,
        head + end,
        end,
        data + head + end,
        ihdr(48, 48, depth=dice.choice([3, 5, 7, 9, 64])) + data + end,
        ihdr(48, 48, colour=dice.choice([1, 5, 7, 9])) + data + end,
        ihdr(0, dice.randint(0, 99)) + data + end,
        ihdr(dice.randint(200, 4000), dice.randint(200, 4000)) + data + end,
        head + chunk(b"IDAT", dice.randbytes(200)) + end,
        head + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000), 9)) + data + end,
        struct.pack(">I", dice.randint(2**31, 2**32 - 1)) + b"IHDR" + dice.randbytes(40),
    )
    return PNG_SIGNATURE + dice.choice(structures) + dice.randbytes(4)


def animated(dice: Dice) -> bytes:
    frames = [Image.fromarray(noise(dice)) for _ in range(dice.randint(2, 4))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def jpeg_damaged(dice: Dice) -> bytes:
    """JPEG files cut off, without tables, with impossible headers."""
    data = noisy_picture(dice, "JPEG")
    markers = (b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda")
    quantisation, frame, tables, scan = (data.index(marker) for marker in markers)
    damaged = (
        data[: dice.randint(3, scan)],
        data[: dice.randint(scan + 14, len(data) * 3 // 4)],
        b"\xff\xd8\xff" + dice.randbytes(dice.randint(0, 500)),
        data[:quantisation] + data[frame:],
        data[:frame] + data[tables:],
        data[: frame + 4] + bytes([dice.choice([0, 1, 7, 12, 16])]) + data[frame + 5 :],
        data[: frame + 5] + bytes(4) + data[frame + 9 :],
        data[: frame + 5] + dice.randbytes(2) + b"\xff\xff" + data[frame + 9 :],
        data[: frame + 9] + bytes([dice.choice([0, 2, 5, 200])]) + data[frame + 10 :],
    )
    return dice.choice(damaged)


def wrong_size(dice: Dice) -> bytes:
    """Sound pictures that are too small for a radiograph."""
    size = (dice.randint(1, 31), dice.randint(1, 400))
    buffer = io.BytesIO()
    picture = Image.frombytes("L", size, dice.randbytes(size[0] * size[1]))
    picture.save(buffer, dice.choice(["PNG", "JPEG"]))
    return buffer.getvalue()


def documents(dice: Dice) -> bytes:
    """What is no picture at all, or a picture of another kind."""
    text = dice.randbytes(dice.randint(1, 200)).hex().encode()
    kind = dice.randrange(12)
    if kind == 0:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            # Not by the name alone: that would stamp the clock's time on it.
            archive.writestr(zipfile.ZipInfo("../../etc/passwd"), text)
        return buffer.getvalue()
    if kind < 4:
        buffer = io.BytesIO()
        form = ("GIF", "BMP", "TIFF")[kind - 1]
        Image.fromarray(noise(dice)).save(buffer, form)
        return buffer.getvalue()
    starts = (b"%PDF-1.7\n", b"<!doctype html><p>", b"<?xml version='1.0'?><a>", b'{"a": "',
              b"MSH|^~\\&|",
              b"RIFF\x24\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypmp42", b"\x1f\x8b\x08\0")  # fmt: skip
    return starts[kind - 4] + text


def tiny(dice: Dice) -> bytes:
    """Less than any file has; among them nothing at all."""
    return dice.randbytes(dice.choice([0, 1, 2, 3, 4, 7, 8, 16, 64, 127]))


def multipart(dice: Dice) -> Case:
    """Forms that are nested, cut off, doubled, or full of headers."""
    boundary = dice.randbytes(6).hex()
    file = b'Content-Disposition: form-data; name="file"; filename="a.dcm"\r\n'
    line = b"--" + boundary.encode() + b"\r\n"
    end = b"--" + boundary.encode() + b"--\r\n"
    part = line + file + b"\r\n" + noisy_picture(dice, "PNG") + b"\r\n"
    inner = b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\na\r\n--inner--"
    other = b'Content-Disposition: form-data; name="%s"\r\n\r\nvalue\r\n'
    bodies = (
        part[: dice.randint(1, 60)],
        b"",
        end,
        part + part + end,
        line + b'Content-Disposition: form-data; name="file"\r\n' + inner + b"\r\n" + end,
        line + file.replace(b'"file"', b'"picture"') + b"\r\nabc\r\n" + end,
        part + (line + other % b"seed") * 2 + end,
        part + line + other % dice.randbytes(5).hex().encode() + end,
        part + b"".join(line + other % b"f%d" % i for i in range(dice.randint(20, 60))) + end,
        line + b"Nonsense\r\n\r\na\r\n" + end,
        line + b"Content-Disposition: attachment\r\n\r\na\r\n" + end,
        part + line + b'Content-Disposition: form-data; name="indication"\r\n\r\n'
        + dice.choice([b"\xff\xfe\x80", b"\x07", b"x" * 100_000]) + b"\r\n" + end,
        line + b"X-Long: " + b"a" * dice.randint(20_000, 90_000) + b"\r\n" + file + b"\r\na\r\n"
        + end,
    )  # fmt: skip
    head = dice.choice(
        [f"multipart/form-data; boundary={boundary}"] * 9
        + ["multipart/form-data", f"multipart/form-data; boundary={'x' * 500}"]
    )
    return Case("multipart", dice.choice(bodies), headers={"Content-Type": head})


def bad_json(dice: Dice) -> Case:
    """JSON that is none, or does not fit."""
    word = dice.randbytes(dice.randint(1, 40)).hex()
    texts: tuple[object, ...] = (
        {"report": word, word: 1},
        {"report": None, "seed": dice.randrange(9**9)},
        {"report": [word]},
        {"report": word, "seed": dice.choice([-1, 2**32, 1.5, "7", True, [], {}])},
        {"report": word, "temperature": dice.choice([-1, 3, "hot", None])},
        {"report": word, "n": dice.choice([0, 99, -5, "1"])},
        {"report": word + "\0"},
        {"report": word * 200},
        [word],
        word,
    )
    bodies = (
        *(json.dumps(text).encode() for text in texts),
        b'{"report": "' + dice.randbytes(30) + b'\xff"}',
        b'{"report": "' + word.encode(),
        b'{"report": "\\ud800' + word.encode() + b'"}',
        b"[" * dice.randint(1000, 100_000),
        b'{"a":' * dice.randint(1000, 50_000),
        b'{"report": "a", "seed": ' + b"9" * dice.randint(5000, 90_000) + b"}",
        word.encode("utf-16"),
    )
    return Case("bad-json", dice.choice(bodies), "/generate-image", {"Content-Type": JSON})


def bad_requests(dice: Dice) -> Case:
    """Good pictures with bad media types, queries, accept headers and lengths."""
    picture = noisy_picture(dice, "PNG")
    word = dice.randbytes(6).hex()
    kind = dice.randrange(7)
    headers, params = {"Content-Type": "image/png"}, {}
    if kind == 0:
        headers = {"Content-Type": f"application/{word}"}
    elif kind == 1:
        params = {word: "1"}
    elif kind == 2:
        params = {"seed": dice.choice([word + "g", "-1", "4294967296", "1e3", "٣"])}
    elif kind == 3:
        params = {"indication": word}
    elif kind == 4:
        headers |= {"Accept": dice.choice([f"application/{word}", "image/gif", "text/html;q=1"])}
    elif kind == 5:
        headers |= {"Content-Length": str(dice.randint(2**30, 2**60))}
    else:
        params = {"temperature": dice.choice(["nan", "inf", "-1", "1e99", word + "g"])}
    return Case("bad-requests", picture, headers=headers, params=params)


def charsets(dice: Dice) -> Case:
    """Texts in character sets that are not UTF-8, or that are not what they claim to be."""
    odd = ("latin-1", "utf-16", "iso-2022-jp", "gb18030", "ISO_IR 192", "utf-7", "cp1252", "x-none")
    word = dice.randbytes(8).hex().encode()
    if dice.random() < 0.5:
        head = f"text/plain; charset={dice.choice(odd)}"
        return Case("charsets", b"Clear lungs. " + word, "/generate-image", {"Content-Type": head})
    bad = dice.choice([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80", b"\x80"])
    return Case("charsets", word + bad, "/generate-image", {"Content-Type": "text/plain"})
