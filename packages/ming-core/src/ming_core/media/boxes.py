"""The boxes of which an mp4 consists: each has a size, a name, and so many bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice


def boxes(
    handle: io.BytesIO | io.FileIO, first: int = 0, most: int = 1_000_000
) -> Iterator[tuple[int, bytes, int]]:
    """Yield (start, name, size) of the boxes from byte `first` on, at most `most` of them.

    Boxes inside of other boxes are not listed. A box whose size is less than 8 is the last one. The
    size 0 means that the box goes on to the end of the file.
    """
    return islice(_boxes(handle, first), most)


def _boxes(handle: io.BytesIO | io.FileIO, at: int) -> Iterator[tuple[int, bytes, int]]:
    length = handle.seek(0, io.SEEK_END)
    while at + 8 <= length:  # a size may lead anywhere
        handle.seek(at)
        head = handle.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        yield at, head[4:8], size
        if size < 8:
            return
        at += size
