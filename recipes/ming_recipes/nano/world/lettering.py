"""Bitmaps of the short strings written into pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_SIZE = 15


@dataclass(frozen=True)
class Lettering:
    """Ink of one string.

    coverage [h, w] float32 in 0..1, cropped to the ink; centers: x, y of each character's ink,
    in px from the top left corner of the crop.
    """

    coverage: np.ndarray
    centers: tuple[tuple[float, float], ...]


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # a size always gives the scalable font
    return font


@cache
def lettering(value: str) -> Lettering:
    """The bitmap of `value` in the scalable font that Pillow embeds."""
    font = _font()
    image = Image.new("L", (3 * FONT_SIZE, 2 * FONT_SIZE))
    ImageDraw.Draw(image).text((FONT_SIZE // 2, FONT_SIZE // 4), value, font=font, fill=255)
    ink = np.asarray(image, dtype=np.float32) / np.float32(255)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    top, left = int(rows[0]), int(columns[0])
    coverage = ink[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].copy()
    coverage.setflags(write=False)
    pen = FONT_SIZE // 2 - left
    middle = (coverage.shape[0] - 1) / 2
    centers = []
    for position, character in enumerate(value):
        x0, _, x1, _ = font.getbbox(character)
        centers.append((pen + font.getlength(value[:position]) + (x0 + x1 - 1) / 2, middle))
    return Lettering(coverage, tuple(centers))
