"""Marks on pictures, and saving pictures whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ming_core.errors import BadMedia
from ming_core.output import names_no_format, write_file
from ming_core.text import one_line

COLOURS = ("#e6194b", "#1f6fd6", "#188a3c", "#c05600", "#8026b8", "#00808a")
"""Apart from each other and from most backgrounds; white letters can be read on each."""

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


def draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[float, float, float, float]], labels: Sequence[str]
) -> Image.Image:
    """A copy with a frame and a label for each box (x0, y0, x1, y1 in px), coloured by label.

    Pillow's own font is Latin: a label in another script is replaced by the number of its box.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = _stroke(picture)
    font = ImageFont.load_default(size=7 * width)
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(labels))}
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True), 1):
        draw.rectangle(box, outline=colours[label], width=width)
        text = label if label.isascii() else str(number)
        if not text:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        wide, high = right - left + 2 * width, bottom - top + 2 * width
        x = min(max(box[0], 0), max(picture.width - wide, 0))
        y = box[1] - high if box[1] >= high else box[1]
        draw.rectangle((x, y, x + wide, y + high), fill=colours[label])
        draw.text((x + width - left, y + width - top), text, "white", font)
    return picture


def draw_point(image: Image.Image, x: float, y: float) -> Image.Image:
    """A copy with a ring and a dot around the point (px)."""
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = _stroke(picture)
    for radius, colour in ((5 * width, "white"), (4 * width, COLOURS[0])):
        draw.ellipse(_square(x, y, radius), outline=colour, width=width)
    draw.ellipse(_square(x, y, width), fill=COLOURS[0])
    return picture


def save_picture(image: Image.Image, path: str | Path) -> Path:
    """Write a picture in the format of the file's suffix. Raises BadMedia for an unknown one."""
    kind = _format_of(path)
    encoded = io.BytesIO()
    image.save(encoded, format=kind)
    return write_file(path, encoded.getvalue())


def check_picture_name(path: str | Path) -> None:
    """Raises BadMedia for a name that a marked picture, or its values in .json, cannot have."""
    if Path(path).suffix.lower() != ".json":
        _format_of(path)


def _format_of(path: str | Path) -> str:
    """What Pillow calls the format that the suffix of a file asks for; PNG for a pipe or device."""
    if names_no_format(path):
        return "PNG"
    kind = _SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        *first, last = _SUFFIXES
        raise BadMedia(
            f"cannot write {one_line(str(path))!r} as a picture; end its name in "
            f"{', '.join(first)} or {last}"
        )
    return kind


def _stroke(picture: Image.Image) -> int:
    """Width of a line that is seen at any size of the picture: 2 px at 400 px."""
    return max(1, round(min(picture.size) / 200))


def _square(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius
