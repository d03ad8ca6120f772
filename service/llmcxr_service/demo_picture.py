"""The demo's side-by-side picture. Knows pixels and captions only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 384
MARGIN = 16
CAPTION_HEIGHT = 28
NOTICE = "AI-generated, research use only. Not for diagnosis."


def side_by_side(panels: Sequence[tuple[str, bytes]], target: Path) -> None:
    """Write PNG files next to each other, each under its caption, with the notice below.

    Args:
        panels: caption and PNG bytes of each.
        target: the PNG to write.
    """
    width = MARGIN + len(panels) * (SIDE + MARGIN)
    height = MARGIN + CAPTION_HEIGHT + SIDE + CAPTION_HEIGHT + MARGIN
    canvas = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(18)
    for index, (caption, png) in enumerate(panels):
        left = MARGIN + index * (SIDE + MARGIN)
        draw.text((left, MARGIN), caption, fill=0, font=font)
        picture = Image.open(io.BytesIO(png), formats=["PNG"]).convert("L")
        scaled = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        canvas.paste(scaled, (left, MARGIN + CAPTION_HEIGHT))
    draw.text((MARGIN, height - MARGIN - 18), NOTICE, fill=0, font=font)
    canvas.save(target)
