"""Paragraphs -> lines that fit a width. East Asian text breaks between any two characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from llmcxr_service.outputs.typeface import Typeface

_WORDS = re.compile(r"\s+|\S+")


def wrap(text: str, typeface: Typeface, width: float) -> list[str]:
    """Lines of at most `width` pixels; a newline always breaks.

    Args:
        text: every visible character of it has a glyph.
        typeface: that draws it.
        width: pixels.
    """
    return [line for part in text.split("\n") for line in _wrap_paragraph(part, typeface, width)]


def is_right_to_left(text: str) -> bool:
    """By the first strong character (UAX #9, P2 and P3)."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in {"L", "R", "AL"}:
            return direction != "L"
    return False


def _wrap_paragraph(text: str, typeface: Typeface, width: float) -> Iterator[str]:
    line, used = "", 0.0
    for atom in _atoms(text):
        for piece in _short_enough(atom, typeface, width):
            # Words are measured one by one: shaping does not reach over spaces.
            length = typeface.width(piece)
            if used + length > width and line.strip():
                yield line.rstrip()
                line, used = "", 0.0
            if line or not piece.isspace():
                line, used = line + piece, used + length
    yield line.rstrip()


def _atoms(text: str) -> Iterator[str]:
    """Pieces between which a line may break."""
    for word in _WORDS.findall(text):
        start = 0
        for position in range(1, len(word)):
            if _may_break(word[position - 1], word[position]):
                yield word[start:position]
                start = position
        yield word[start:]


def _may_break(before: str, after: str) -> bool:
    """Between East Asian characters, but not before a closing mark nor after an opening one."""
    if unicodedata.category(after) in {"Po", "Pe", "Pf", "Lm", "Mn"}:
        return False
    if unicodedata.category(before) in {"Ps", "Pi"}:
        return False
    return any(unicodedata.east_asian_width(c) in "WF" for c in (before, after))


def _short_enough(atom: str, typeface: Typeface, width: float) -> Iterator[str]:
    """A word that is wider than the page, in pieces that are not."""
    while len(atom) > 1 and typeface.width(atom) > width:
        fit = max(1, int(len(atom) * width / typeface.width(atom)))
        while fit > 1 and typeface.width(atom[:fit]) > width:
            fit -= 1
        yield atom[:fit]
        atom = atom[fit:]
    yield atom
