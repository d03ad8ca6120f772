"""Which font has a glyph for a character: DejaVu Sans, which comes along, then the system's Noto.

DejaVu covers Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian and Georgian. For the rest the
machine needs Google's Noto Sans (Debian: fonts-noto-cjk, fonts-noto-core). Nothing is ever drawn
with a glyph that a font does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fontTools.ttLib import TTFont
from PIL import ImageFont

_BUNDLED = Path(__file__).parent / "fonts"
_SYSTEM = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
_CJK_FACES = {"ja": 0, "ko": 1, "zh": 2, "zh-TW": 3, "zh-HK": 4}
"""Faces of Noto Sans CJK's collection: one code point is drawn as each country writes it."""


class Face(NamedTuple):
    """One face in a font file; `number` counts in a collection."""

    path: Path
    number: int = 0


class Typeface:
    """The fonts of one page, and who draws which character. Not for several threads.

    Args:
        size: of the letters, pixels.
        bold: whether bold is wanted where there is one.
        language: of the text, RFC 5646.
    """

    def __init__(self, size: int, *, bold: bool, language: str) -> None:
        self._size = size
        self._faces = _faces(bold, language)
        self._fonts: dict[Face, ImageFont.FreeTypeFont] = {}
        ascent, descent = self.font(self._faces[0]).getmetrics()
        self.line_height = round(1.25 * (ascent + descent))

    def font(self, face: Face) -> ImageFont.FreeTypeFont:
        """The face in this size."""
        if face not in self._fonts:
            self._fonts[face] = ImageFont.truetype(
                face.path,
                self._size,
                index=face.number,
                layout_engine=ImageFont.Layout.RAQM,
            )
        return self._fonts[face]

    def face_of(self, character: str) -> Face | None:
        """The first face that has the character; None where there is none."""
        return next((f for f in self._faces if ord(character) in _characters(f)), None)

    def runs(self, text: str) -> Iterator[tuple[Face, str]]:
        """The text in pieces of one face each; characters without one stay with their neighbours.

        Only joiners and marks should be without one here; see `legible.make_legible`.
        """
        face, start = self._faces[0], 0
        for position, character in enumerate(text):
            # What the last letter's font has, too, stays with it: fewer seams.
            if character.isspace() or ord(character) in _characters(face):
                continue
            other = self.face_of(character)
            if other is None or other == face:
                continue
            if position > start:
                yield face, text[start:position]
            face, start = other, position
        if start < len(text):
            yield face, text[start:]

    def width(self, text: str) -> float:
        """Width of a line, pixels."""
        return sum(self.font(face).getlength(piece) for face, piece in self.runs(text))


@lru_cache(maxsize=32)
def _faces(bold: bool, language: str) -> tuple[Face, ...]:
    bundled = [Face(_BUNDLED / "DejaVuSans.ttf")]
    if bold:
        bundled.insert(0, Face(_BUNDLED / "DejaVuSans-Bold.ttf"))
    weight = "Bold" if bold else "Regular"
    cjk = _CJK_FACES.get(language, _CJK_FACES.get(language.split("-")[0], 0))
    found = sorted(
        set(chain.from_iterable(root.glob(f"**/NotoSans*-{weight}.*") for root in _SYSTEM))
    )
    fonts = [path for path in found if path.suffix in {".ttf", ".ttc", ".otf"}]
    return (*bundled, *(Face(path, cjk if path.suffix == ".ttc" else 0) for path in fonts))


@lru_cache(maxsize=256)
def _characters(face: Face) -> frozenset[int]:
    try:
        with TTFont(face.path, fontNumber=face.number, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # a broken font on this machine has no characters
        return frozenset()
