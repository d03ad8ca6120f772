"""The report as pages to look at: black on white, and on every one that a machine wrote it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from llmcxr_service.draft import DraftReport
from llmcxr_service.errors import NotAcceptable
from llmcxr_service.outputs.legible import make_legible
from llmcxr_service.outputs.page_text import Paragraph, paragraphs
from llmcxr_service.outputs.text_layout import is_right_to_left, wrap
from llmcxr_service.outputs.typeface import Typeface

WIDTH, HEIGHT = 1024, 1448
"""A4, upright, about 125 dots an inch."""
_MARGIN, _BAND = 64, 56
_SIZE = 22
_BLACK, _WHITE = 0, 255
_HEAD = "AI-GENERATED DRAFT - PRELIMINARY - NOT VERIFIED"
_SPELT = (
    "Characters shown like [U+0041] have no glyph in the fonts of this machine; the structured"
    " report and the text hold them."
)
_MOST_SPELT = 0.05
"""Share of the model's text that may be spelt out; more would be no page to read."""


@dataclass(frozen=True)
class _Line:
    text: str
    bold: bool = False
    from_right: bool = False


class _Setter:
    """Sets paragraphs and draws pages; one for each report."""

    def __init__(self, language: str) -> None:
        self._plain = Typeface(_SIZE, bold=False, language=language)
        self._bold = Typeface(_SIZE, bold=True, language=language)
        self._line_height = self._plain.line_height

    def set(self, parts: list[Paragraph]) -> list[_Line]:
        """Lines of paragraphs.

        Raises:
            NotAcceptable: the fonts lack too much of what the model wrote.
        """
        lines: list[_Line] = []
        spelt = missing = written = 0
        for part in parts:
            typeface = self._typeface(part.bold)
            legible = make_legible(part.text, typeface)
            spelt += legible.missing
            if part.written:
                missing, written = missing + legible.missing, written + legible.visible
            for paragraph in legible.text.split("\n"):
                from_right = is_right_to_left(paragraph)
                lines += [
                    _Line(text, part.bold, from_right)
                    for text in wrap(paragraph, typeface, WIDTH - 2 * _MARGIN)
                ]
        if missing > _MOST_SPELT * written:
            raise NotAcceptable(
                "The fonts of the service lack this text's script; another form has it in full.",
                reason="no-font",
            )
        notes = wrap(_SPELT, self._bold, WIDTH - 2 * _MARGIN) if spelt else []
        return [_Line(text, bold=True) for text in notes] + lines

    def pages(self, lines: list[_Line], foot: str) -> list[NDArray[np.uint8]]:
        """Pages (HEIGHT, WIDTH) of lines."""
        room = (HEIGHT - 2 * _BAND - _MARGIN) // self._line_height
        chunks = [lines[i : i + room] for i in range(0, len(lines), room)]
        return [
            self._page(chunk, f"{foot}   Page {number} of {len(chunks)}")
            for number, chunk in enumerate(chunks, start=1)
        ]

    def _page(self, lines: list[_Line], foot: str) -> NDArray[np.uint8]:
        image = Image.new("L", (WIDTH, HEIGHT), _WHITE)
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, WIDTH, _BAND), fill=_BLACK)
        draw.rectangle((0, HEIGHT - _BAND, WIDTH, HEIGHT), fill=_BLACK)
        inset = (_BAND - self._line_height) // 2
        self._draw(draw, _Line(_HEAD, bold=True), inset, _WHITE)
        self._draw(draw, _Line(foot), HEIGHT - _BAND + inset, _WHITE)
        for row, line in enumerate(lines):
            self._draw(draw, line, _BAND + _MARGIN // 2 + row * self._line_height, _BLACK)
        return np.asarray(image)

    def _draw(self, draw: ImageDraw.ImageDraw, line: _Line, y: int, ink: int) -> None:
        typeface = self._typeface(line.bold)
        x = WIDTH - _MARGIN if line.from_right else _MARGIN
        direction = "rtl" if line.from_right else "ltr"
        baseline = y + self._line_height * 3 // 4
        for face, text in typeface.runs(line.text):
            font = typeface.font(face)
            length = font.getlength(text, direction=direction)
            left = x - length if line.from_right else x
            draw.text((left, baseline), text, ink, font, anchor="ls", direction=direction)
            x = left if line.from_right else x + length  # type: ignore[assignment]

    def _typeface(self, bold: bool) -> Typeface:
        return self._bold if bold else self._plain


def report_pages(draft: DraftReport) -> NDArray[np.uint8]:
    """The pages (P, HEIGHT, WIDTH) of a report, 8-bit, MONOCHROME2.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
        NotAcceptable: the fonts lack the script.
    """
    setter = _Setter(draft.language)
    model = draft.model
    foot = f"{model.name} {model.version}  sha256:{model.digest[:12]}"
    foot = make_legible(foot[:48], Typeface(_SIZE, bold=False, language="en")).text
    return np.stack(setter.pages(setter.set(paragraphs(draft)), foot))
