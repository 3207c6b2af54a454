"""The boxes of which an mp4 consists: each has a size, a name, and so many bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice


def boxes(
    handle: io.BytesIO | io.FileIO, first: int = 0, most: int = 1_000_000
) -> Iterator[tuple[int, bytes, int]]:
    """(where it begins, name, size) of each box from byte `first` on, at most so many.

    Those that lie in another one are not looked at. A box whose size is less than 8, as 0 for one
    that goes on to the end, is the last.
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
