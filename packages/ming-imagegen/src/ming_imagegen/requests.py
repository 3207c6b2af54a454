"""What a request for a drawing asks for: the size of the picture, and the words to write in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Size = tuple[int, int]
"""Height and width in pixels."""

Buckets = Sequence[tuple[int, int, int]]
"""Sizes that a model was trained on: rows (100 * height / width, height, width)."""

MAX_SINGLE_QUOTED = 20
"""Text of this weight between straight single quotes is no quotation. Chinese weighs 3."""


def nearest_size(height: int, width: int, resolution: int, tables: Mapping[int, Buckets]) -> Size:
    """Trained size nearest in shape, from the table (by its resolution) nearest to `resolution`."""
    buckets = tables[min(tables, key=lambda known: abs(known - resolution))]
    return _nearest(height / width, buckets)


def size_of_shape(aspect_ratio: float, buckets: Buckets) -> Size:
    """Trained size nearest to a wanted width / height."""
    return _nearest(1 / aspect_ratio, buckets)


def cover_size(height: int, width: int, size: Size) -> Size:
    """Size to which a picture is resized so that it covers `size`, before the middle is cut out."""
    if size[0] * width > size[1] * height:
        return size[0], int(width * size[0] / height)
    return int(height * size[1] / width), size[1]


def quoted_text(prompt: str) -> str:
    """The last quotation of a prompt as `Text "...". `, which a glyph encoder takes; "" for none.

    Straight double quotes are looked for first, then single, then curly ones. A quotation
    that is to be removed, deleted or erased is not to be written.
    """
    single = re.findall(r"'([^']*)'", prompt) if prompt.count("'") % 2 == 0 else []
    quotations = [
        *re.findall(r'"([^"]*)"', prompt),
        *(text for text in single if _weight(text) < MAX_SINGLE_QUOTED),
        *re.findall(r"‘([^‘’]*)’", prompt),
        *re.findall(r"“([^“”]*)”", prompt),
    ]
    if not quotations:
        return ""
    before = prompt[: prompt.index(quotations[0])].lower()
    if len(quotations) == 1 and re.search(r"\b(remove|delete|erase)\b", before):
        return ""
    return f'Text "{quotations[-1]}". '


def _nearest(ratio: float, buckets: Buckets) -> Size:
    _, height, width = min(buckets, key=lambda row: abs(row[0] / 100 - ratio))
    return height, width


def _weight(text: str) -> int:
    return sum(3 if "\u4e00" <= letter <= "\u9fff" else 1 for letter in text)
