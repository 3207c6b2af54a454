"""Boxes that a model writes, in pixels of the picture.

The releases write `[x0, y0, x1, y1]` in thousandths of width and height (largest published value
999), alone or inside a caption: `a <boxes alt="cat" bbox="[0, 366, 431, 788]">cat</boxes>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ming_core.output import write_file
from ming_core.text import json_text
from ming_vision.drawing import draw_boxes, save_picture
from ming_vision.prompts import BoxStyle

_FOUR = [r"(\d{1,6})"] * 4
_BRACKETS = re.compile(r"[\[(]\s*" + r"\s*,\s*".join(_FOUR) + r"\s*[\])]")
_PLAIN = re.compile(r"(?<![\d.])" + r"[\s,]+".join(_FOUR) + r"(?![\d.])")
_TAG = re.compile(r"<boxes\b([^>]*)>(.*?)(</boxes>|(?=<boxes\b)|\Z)", re.DOTALL)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


@dataclass(frozen=True)
class Box:
    """Left, top, right and bottom edge in px from the top left corner, and what is in it."""

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
    """What `ground` found. boxes: none if the answer has none that can be read.

    text: the whole answer. image: the picture upright, as the model saw it before resizing.
    """

    boxes: tuple[Box, ...]
    text: str
    image: Image.Image = field(repr=False, compare=False)

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the picture in px."""
        return self.image.size

    @property
    def caption(self) -> str:
        """The answer without the tags of boxes."""
        return _TAG.sub(lambda match: match[2], self.text)

    def draw(self) -> Image.Image:
        """The picture with the boxes on it."""
        return draw_boxes(
            self.image, [b.corners for b in self.boxes], [b.label for b in self.boxes]
        )

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        boxes = [box.to_dict() for box in self.boxes]
        return {"boxes": boxes, "image_size": list(self.image_size), "text": self.text}

    def save(self, path: str | Path) -> Path:
        """The drawn picture, or the values for a path in .json; complete or not at all."""
        if Path(path).suffix.lower() == ".json":
            return write_file(path, json_text(self.to_dict()) + "\n")
        return save_picture(self.draw(), path)


def parse_boxes(
    text: str,
    size: tuple[int, int],
    label: str = "",
    scale: int = 1000,
    style: BoxStyle = "brackets",
) -> tuple[Box, ...]:
    """All boxes in an answer, in pixels of a picture of `size` (width, height).

    In a caption each box is labelled by its tag, elsewhere all by `label`. Numbers beyond `scale`
    and boxes without area are no boxes and left out.
    """
    tagged = [box for match in _TAG.finditer(text) for box in _tagged(match, size, scale, style)]
    return tuple(tagged or _numbers(text, size, label, scale, style))


def _tagged(
    match: re.Match[str], size: tuple[int, int], scale: int, style: BoxStyle
) -> Iterator[Box]:
    attributes = {name: double or single for name, double, single in _ATTRIBUTE.findall(match[1])}
    label = attributes.get("alt") or (match[2].strip() if match[3] else "")
    return _numbers(attributes.get("bbox", ""), size, label, scale, style)


def _numbers(
    text: str, size: tuple[int, int], label: str, scale: int, style: BoxStyle
) -> Iterator[Box]:
    pattern, far = (_BRACKETS, 0) if style == "brackets" else (_PLAIN, 1)
    for match in pattern.finditer(text):
        x0, y0, x1, y1 = map(int, match.groups())
        left, right = sorted((x0, x1))
        top, bottom = sorted((y0, y1))
        right, bottom = right + far, bottom + far
        if left < right <= scale and top < bottom <= scale:
            x, y = (side / scale for side in size)
            yield Box(left * x, top * y, right * x, bottom * y, label)
