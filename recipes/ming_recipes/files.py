"""Files that are whole or not there, also when the disk is full or the process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

PART = ".{name}.{key}.part"
"""The name of a file while it is written; a process that is killed leaves one behind."""


@contextmanager
def replacing(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an error.

    It is written beside `path`, since a rename is all or nothing on one file system only, and it is
    on the disk before it is renamed. before: where the file that had the place is kept. Raises
    OSError.
    """
    path = path.resolve()  # a link stays one
    part = path.with_name(PART.format(name=path.name, key=uuid4().hex[:8]))
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            path.replace(before)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file at once, in UTF-8. Raises OSError."""
    with replacing(path) as file:
        file.write(text.encode())


def remove_parts(folder: Path) -> None:
    """Remove what killed processes left of the files in a folder. No other may write there now."""
    for part in folder.glob(PART.format(name="*", key="*")):
        part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where the system can do that."""
    if os.name == "posix":
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
