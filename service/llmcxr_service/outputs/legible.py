"""Text that fonts can draw in full: what has no glyph is spelt out, and never becomes a box."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from llmcxr_service.outputs.typeface import Typeface

_INVISIBLE = {"Cf", "Mn", "Me"}
"""Joiners, direction marks and combining marks: the shaping engine deals with them."""


class Legible(NamedTuple):
    """A text for drawing; `missing` of its `visible` characters were spelt out."""

    text: str
    missing: int
    visible: int


def make_legible(text: str, typeface: Typeface) -> Legible:
    """Replace each character without a glyph by its code point, as in [U+1F600]."""
    pieces, missing, visible = [], 0, 0
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        if character == "\n" or category in _INVISIBLE:
            pieces.append(character)
        elif character.isspace() or category == "Cc":
            pieces.append(" ")
        else:
            visible += 1
            if typeface.face_of(character) is None:
                missing += 1
                character = f"[U+{ord(character):04X}]"
            pieces.append(character)
    return Legible("".join(pieces), missing, visible)
