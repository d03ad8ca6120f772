"""Seeded hostile requests, evenly of all classes of a door, no two alike.

A door is a way in: uploads, STOW-RS, pulls from an archive (WADO-RS), DIMSE. Every class of
files goes through each of them; each has classes of its own besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.hostile import dicom_cases as dicom
from tests.hostile import dimse_cases as dimse
from tests.hostile import other_cases as other
from tests.hostile import stow_cases as stow
from tests.hostile import wado_cases as wado
from tests.hostile.case import AnyCase, Case, Dice

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
_TRIES = 50


class Door(StrEnum):
    """A way in."""

    UPLOAD = "upload"
    STOW = "stow-rs"
    PULL = "wado-rs"
    DIMSE = "dimse"


@dataclass(frozen=True)
class Ways:
    """What goes through a door.

    Attributes:
        percent: of all requests.
        send: a file of a class as it comes through this door.
        requests: classes that are no files.
    """

    percent: int
    send: Callable[[str, bytes, Dice], AnyCase]
    requests: dict[str, Callable[[Dice], AnyCase]]

    @property
    def kinds(self) -> tuple[str, ...]:
        """All classes."""
        return (*FILES, *self.requests)


def _upload(kind: str, data: bytes, dice: Dice) -> Case:
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


DOORS: dict[Door, Ways] = {
    Door.UPLOAD: Ways(
        40,
        _upload,
        {
            "multipart": other.multipart,
            "bad-json": other.bad_json,
            "bad-requests": other.bad_requests,
            "charsets": other.charsets,
        },
    ),
    Door.STOW: Ways(
        20,
        stow.files,
        {
            "stow-framing": stow.framing,
            "stow-types": stow.types,
            "stow-parts": stow.parts,
            "stow-identities": stow.identities,
        },
    ),
    Door.PULL: Ways(
        20,
        wado.files,
        {
            "archive-framing": wado.framing,
            "archive-statuses": wado.statuses,
            "archive-http": wado.broken_http,
            "archive-endless": wado.endless,
            "archive-silence": wado.silence,
            "archive-others": wado.other_instances,
            "pull-requests": wado.requests,
        },
    ),
    Door.DIMSE: Ways(
        20,
        dimse.files,
        {
            "association-requests": dimse.association_requests,
            "association-titles": dimse.titles,
            "pdu-lengths": dimse.pdu_lengths,
            "pdu-types": dimse.pdu_types,
            "data-values": dimse.values,
            "command-sets": dimse.commands,
            "other-protocols": dimse.other_protocols,
            "large-data-sets": dimse.large,
            "renamed-instances": dimse.renamed,
        },
    ),
}


def hostile_cases(door: Door, count: int, seed: int) -> Iterator[AnyCase]:
    """`count` distinct requests through a door; the same ones for the same seed."""
    seen: set[bytes] = set()
    made = 0
    spent: set[str] = set()
    while made < count:
        for kind in DOORS[door].kinds:
            if kind in spent or made >= count:
                continue
            case = _unseen(door, kind, Dice(f"{seed}/{door}/{kind}/{made}"), seen)
            if case is None:
                spent.add(kind)  # this class has no more of them
                continue
            made += 1
            yield case


def _unseen(door: Door, kind: str, dice: Dice, seen: set[bytes]) -> AnyCase | None:
    ways = DOORS[door]
    for _ in range(_TRIES):
        if kind in ways.requests:
            case = ways.requests[kind](dice)
            identity = case.identity
        else:
            identity = FILES[kind](dice)  # by itself, however it is sent
            case = ways.send(kind, identity, dice)
        digest = hashlib.sha256(identity).digest()
        if digest not in seen:
            seen.add(digest)
            return case
    return None
