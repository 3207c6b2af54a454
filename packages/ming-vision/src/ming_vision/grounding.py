"""Boxes that a model writes, in pixels of the picture.

The releases write `[x0, y0, x1, y1]` in thousandths of width and height (largest published value
999), alone or inside a caption: `a <boxes alt="cat" bbox="[0, 366, 431, 788]">cat</boxes>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ming_core.output import write_file
from ming_core.text import json_text
from ming_vision.drawing import draw_boxes, save_picture
from ming_vision.image import full_size
from ming_vision.prompts import BoxStyle
from ming_vision.square import WHOLE, Place

_FOUR = [r"(\d{1,6})"] * 4
_BRACKETS = re.compile(r"[\[(]\s*" + r"\s*,\s*".join(_FOUR) + r"\s*[\])]")
_PLAIN = re.compile(r"(?<![\d.])" + r"[\s,]+".join(_FOUR) + r"(?![\d.])")
_TAG = re.compile(r"<boxes\b([^>]*)>(.*?)(</boxes>|(?=<boxes\b)|\Z)", re.DOTALL)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


@dataclass(frozen=True)
class Box:
    """A box: left, top, right and bottom edge in px from the top left corner, and a label."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str = ""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def iou(self, other: Box) -> float:
        """Area shared by two boxes over the area they cover together, 0 to 1."""
        wide = min(self.x1, other.x1) - max(self.x0, other.x0)
        high = min(self.y1, other.y1) - max(self.y0, other.y0)
        shared = max(wide, 0) * max(high, 0)
        areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (self, other)]
        return shared / (sum(areas) - shared) if shared else 0.0

    def to_dict(self) -> dict[str, Any]:
        """`{"label": ..., "box": [x0, y0, x1, y1]}` with a tenth of a pixel."""
        return {"label": self.label, "box": [round(edge, 1) for edge in self.corners]}


@dataclass(frozen=True)
class Grounding:
    """The result of `ground`.

    Attributes:
        boxes: The boxes; empty if the answer has no readable box.
        text: The whole answer.
        image: The upright picture before it was resized for the model.
        confidence: As in `Answer`.
        sure: As in `Answer`.
    """

    boxes: tuple[Box, ...]
    text: str
    image: Image.Image = field(repr=False, compare=False)
    confidence: float = field(default=1.0, compare=False)
    sure: bool | None = field(default=None, compare=False)

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the picture in px, even if `image` is a smaller copy of it."""
        return full_size(self.image)

    @property
    def caption(self) -> str:
        """The answer without the tags of boxes."""
        return _TAG.sub(lambda match: match[2], self.text)

    def draw(self) -> Image.Image:
        """A copy of the picture with the boxes drawn on it."""
        scale = self.image.width / self.image_size[0]
        corners = [
            (box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale) for box in self.boxes
        ]
        return draw_boxes(self.image, corners, [box.label for box in self.boxes])

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        boxes = [box.to_dict() for box in self.boxes]
        return {
            "boxes": boxes,
            "image_size": list(self.image_size),
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "sure": self.sure,
        }

    def save(self, path: str | Path) -> Path:
        """Write the picture with the boxes, or the values if the path ends in .json.

        The file is written completely or not at all. Raises CannotWrite.
        """
        if Path(path).suffix.lower() == ".json":
            return write_file(path, json_text(self.to_dict()) + "\n")
        return save_picture(self.draw(), path)


def parse_boxes(
    text: str,
    size: tuple[int, int],
    label: str = "",
    scale: int = 1000,
    style: BoxStyle = "brackets",
    place: Place = WHOLE,
) -> tuple[Box, ...]:
    """All boxes in an answer, in pixels of a picture of `size` (width, height).

    A number n means n / `scale` of the width or height. place: where the picture lies on the canvas
    that the numbers are about. Boxes are cut off at the edges of the picture. In a caption, the tag
    of a box is its label; elsewhere all boxes have the label `label`. Boxes with numbers beyond
    `scale`, and boxes without area, are left out.
    """
    tagged = [
        (name, edges)
        for name, numbers in map(_tagged, _TAG.finditer(text))
        for edges in _numbers(numbers, scale, style)
    ]
    found = tagged or [(label, edges) for edges in _numbers(text, scale, style)]
    boxes = (_in_picture(edges, size, name, place) for name, edges in found)
    return tuple(box for box in boxes if box.x0 < box.x1 and box.y0 < box.y1)


def write_box(
    corners: Sequence[float],
    size: tuple[int, int],
    scale: int = 1000,
    style: BoxStyle = "brackets",
    place: Place = WHOLE,
) -> str:
    """A box in pixels of a picture of `size` as a model writes it: `parse_boxes` reads it back.

    corners: left, top, right and bottom edge. What lies beside the picture is cut off.
    """
    wide, high = size
    # In brackets no release writes the scale itself, and elsewhere the last column is in the box.
    most, far = (scale - 1, 0) if style == "brackets" else (scale, 1)
    x0, y0, x1, y1 = corners
    left, right = sorted((_within(x0 / wide), _within(x1 / wide)))
    top, bottom = sorted((_within(y0 / high), _within(y1 / high)))
    first, last = place.to_canvas(left, top), place.to_canvas(right, bottom)
    starts = [min(round(share * scale), most - 1) for share in first]
    # At least one column and one row: a box without area is none.
    ends = [
        min(max(round(share * scale), start + 1), most)
        for share, start in zip(last, starts, strict=True)
    ]
    if style == "plain":
        digits = len(str(scale - 1))
        return " ".join(f"{value:0{digits}}" for value in (*starts, *(end - far for end in ends)))
    return f"[{', '.join(map(str, (*starts, *ends)))}]"


def _tagged(match: re.Match[str]) -> tuple[str, str]:
    """What a tag names, and its numbers."""
    attributes = {name: double or single for name, double, single in _ATTRIBUTE.findall(match[1])}
    label = attributes.get("alt") or (match[2].strip() if match[3] else "")
    return label, attributes.get("bbox", "")


def _numbers(text: str, scale: int, style: BoxStyle) -> Iterator[tuple[float, float, float, float]]:
    """Left, top, right and bottom edge in shares of the canvas."""
    pattern, far = (_BRACKETS, 0) if style == "brackets" else (_PLAIN, 1)
    for match in pattern.finditer(text):
        x0, y0, x1, y1 = map(int, match.groups())
        left, right = sorted((x0, x1))
        top, bottom = sorted((y0, y1))
        right, bottom = right + far, bottom + far
        if left < right <= scale and top < bottom <= scale:
            yield left / scale, top / scale, right / scale, bottom / scale


def _in_picture(
    edges: tuple[float, float, float, float], size: tuple[int, int], label: str, place: Place
) -> Box:
    (x0, y0), (x1, y1) = (
        (_within(x) * size[0], _within(y) * size[1])
        for x, y in (place.to_picture(*edges[:2]), place.to_picture(*edges[2:]))
    )
    return Box(x0, y0, x1, y1, label)


def _within(share: float) -> float:
    return min(max(share, 0.0), 1.0)
