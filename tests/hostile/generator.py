"""Seeded hostile requests, evenly of all classes, no two alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from tests.hostile import dicom_cases as dicom
from tests.hostile import other_cases as other
from tests.hostile.case import Case, Dice

_ROUTES = ("/generate-report", "/reconstruct", "/answer-question")

FILES: dict[str, Callable[[Dice], bytes]] = {
    "deflated-bomb": dicom.deflated_bomb,
    "nested-sequences": dicom.nested_sequences,
    "empty-elements": dicom.empty_elements,
    "element-length": dicom.element_length,
    "pixel-length": dicom.pixel_length,
    "rle-dimensions": dicom.rle_dimensions,
    "rle-malformed": dicom.rle_malformed,
    "preamble": dicom.preamble,
    "truncated-dicom": dicom.truncated,
    "wrong-vr": dicom.wrong_vr,
    "contradictions": dicom.contradictions,
    "fragments": dicom.fragments,
    "undefined-length": dicom.undefined_length,
    "jpeg-in-dicom": dicom.jpeg_garbage,
    "lossless-jpeg": dicom.lossless_garbage,
    "decoder-killers": dicom.decoder_killers,
    "jpeg-ls": dicom.jpeg_ls_garbage,
    "jpeg-2000": dicom.jpeg_2000_garbage,
    "lookup-tables": dicom.lookup_tables,
    "odd-numbers": dicom.odd_numbers,
    "endian-mix": dicom.endian_mix,
    "other-objects": dicom.other_objects,
    "random-data-set": dicom.random_data_set,
    "missing-elements": dicom.missing_elements,
    "png-bomb": other.png_bomb,
    "png-truncated": other.png_truncated,
    "png-flipped": other.png_flipped,
    "png-structure": other.png_structure,
    "animated-png": other.animated,
    "jpeg-file": other.jpeg_damaged,
    "wrong-size": other.wrong_size,
    "documents": other.documents,
    "tiny": other.tiny,
}
REQUESTS: dict[str, Callable[[Dice], Case]] = {
    "multipart": other.multipart,
    "bad-json": other.bad_json,
    "bad-requests": other.bad_requests,
    "charsets": other.charsets,
}
KINDS = (*FILES, *REQUESTS)
_TRIES = 50


def hostile_cases(count: int, seed: int) -> Iterator[Case]:
    """`count` distinct requests; the same ones for the same seed."""
    seen: set[bytes] = set()
    made = 0
    spent: set[str] = set()
    while made < count:
        for kind in KINDS:
            if kind in spent or made >= count:
                continue
            case = _unseen(kind, Dice(f"{seed}/{kind}/{made}"), seen)
            if case is None:
                spent.add(kind)  # this class has no more of them
                continue
            made += 1
            yield case


def _unseen(kind: str, dice: Dice, seen: set[bytes]) -> Case | None:
    for _ in range(_TRIES):
        if kind in REQUESTS:
            case = REQUESTS[kind](dice)
            identity = repr((case.path, case.headers, case.params)).encode() + case.content
        else:
            identity = FILES[kind](dice)  # by itself, however it is sent
            case = _sent(kind, identity, dice)
        digest = hashlib.sha256(identity).digest()
        if digest not in seen:
            seen.add(digest)
            return case
    return None


def _sent(kind: str, data: bytes, dice: Dice) -> Case:
    path = dice.choice(_ROUTES)
    if path != "/answer-question" and dice.random() < 0.7:
        media_type = dice.choice(["application/dicom", "application/octet-stream", "image/png"])
        return Case(kind, data, path, {"Content-Type": media_type})
    boundary = dice.randbytes(8).hex()
    question = b'Content-Disposition: form-data; name="question"\r\n\r\nIs it large?\r\n'
    body = (
        b"--" + boundary.encode()
        + b'\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + data + b"\r\n"
        + (b"--" + boundary.encode() + b"\r\n" + question if path == "/answer-question" else b"")
        + b"--" + boundary.encode() + b"--\r\n"
    )  # fmt: skip
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Case(kind, body, path, headers)
