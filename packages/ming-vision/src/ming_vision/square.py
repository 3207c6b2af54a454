"""Pictures of any shape for a model that was only taught square ones.

The shorter side is stretched a little. The rest of the square is filled with the colours of the
border of the picture. `Place` says where the picture lies in the square. With it, places that the
model writes about the square become places in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as pil


@dataclass(frozen=True)
class Place:
    """Left and top edge, width and height of a picture in shares of the sides of its canvas."""

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """A point of the canvas as one of the picture, both in shares of width and height.

        What lies beside the picture is below 0 or above 1.
        """
        return (x - self.x) / self.width, (y - self.y) / self.height

    def to_canvas(self, x: float, y: float) -> tuple[float, float]:
        """A point of the picture as one of the canvas: what `to_picture` undoes."""
        return self.x + x * self.width, self.y + y * self.height


WHOLE = Place()
"""A picture that fills its canvas, however its two sides were scaled."""


@dataclass(frozen=True)
class Square:
    """How a picture is brought to a square canvas.

    stretch: how much of the difference between the two sides is made up for by stretching the
    shorter one, the rest by filling up: 0 keeps the ratio, 1 fills nothing up.
    """

    stretch: float

    def size(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Height and width of a picture on a canvas of `side` pixels; the longer side fills it."""
        longer = max(height, width)
        high, wide = (
            max(1, round(side * (length / longer) ** (1 - self.stretch)))
            for length in (height, width)
        )
        return high, wide

    def place(self, height: int, width: int, side: int) -> Place:
        """Where such a picture lies on the canvas: in the middle."""
        high, wide = self.size(height, width, side)
        top, left = (side - high) // 2, (side - wide) // 2
        return Place(left / side, top / side, wide / side, high / side)


def filled_up(picture: pil.Image, side: int) -> pil.Image:
    """A picture in the middle of a square of `side` pixels; its border goes on to the edges."""
    top, left = (side - picture.height) // 2, (side - picture.width) // 2
    bottom, right = side - picture.height - top, side - picture.width - left
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), mode="edge")
    return pil.fromarray(pixels)
