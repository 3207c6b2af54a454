"""Files with one JSON object on each line. They grow during a run, and any stop leaves them whole.

Only the last line can be broken off by a kill. It is dropped when the file is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig, CannotWrite
from ming_core.notes import note_to_user
from ming_core.output import check_target, make_folder, write_file
from ming_core.text import json_text

MOST = 2**31
"""Bytes of a file."""


@dataclass(frozen=True)
class Lines:
    """What such a file holds.

    Attributes:
        head: The first line, which says what the file is; None if nothing is there.
        values: The other lines with their numbers, without those that broke off.
        broken: How many lines broke off.
        size: Bytes up to the end of the last whole line.
    """

    head: dict[str, Any] | None
    values: tuple[tuple[int, dict[str, Any]], ...]
    broken: int
    size: int


def read_lines(path: Path, kind: str) -> Lines:
    """Read such a file. kind: the key with which its first line begins.

    Raises BadConfig for a file of another kind.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadConfig(f"{path} is no file; name a file of {kind}")
        if path.stat().st_size > MOST:
            raise BadConfig(f"{path} is larger than {MOST} bytes, so it is no file of {kind}")
        content = path.read_bytes()
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}; check the path") from None
    start = f'{{"{kind}": '.encode()
    if b"\n" not in content and (content.startswith(start) or start.startswith(content)):
        return Lines(None, (), int(content != b""), 0)  # nothing, or its first line broke off
    first, *lines = content.split(b"\n")
    head = _value(first)
    if head is None or kind not in head:
        raise BadConfig(f"{path} is no file of {kind}; give a file that `ming eval` wrote")
    tail = lines.pop()  # what follows the last end of a line
    values = [(number, _value(line)) for number, line in enumerate(lines, start=2)]
    whole = tuple((number, value) for number, value in values if value is not None)
    broken = len(values) - len(whole) + (tail != b"")
    return Lines(head, whole, broken, len(content) - len(tail))


def _value(line: bytes) -> dict[str, Any] | None:
    """The object of a line; None for a line that broke off."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def note_broken(path: Path, lines: Lines) -> None:
    """Tell the user about lines that broke off."""
    if lines.broken:
        what = "a line" if lines.broken == 1 else f"{lines.broken} lines"
        note_to_user(f"{what} of {path} broke off, so what it said is left out or done again")


class LineFile:
    """Such a file, open for further lines."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[LineFile]:
        """Open a file, or make it. Only one process at a time may have it.

        Raises BadConfig if another process has it, CannotWrite.
        """
        make_folder(path.parent)
        check_target(path)
        with _explained(path):
            file = path.open("ab", buffering=0)
        with file:
            _lock(path, file)
            yield cls(path, file)

    def cut(self, size: int) -> None:
        """Drop what is behind so many bytes."""
        with _explained(self.path):
            self._file.truncate(size)

    def add(self, value: Mapping[str, Any]) -> None:
        """Write a line, at once."""
        left = memoryview(as_line(value))
        with _explained(self.path):
            while left:  # a disk that is full may take a part
                left = left[self._file.write(left) :]

    def replace(self, values: list[Mapping[str, Any]]) -> None:
        """Put other lines in the place of all. Nothing can be added afterwards."""
        self._file.close()
        write_file(self.path, b"".join(map(as_line, values)))


def as_line(value: Mapping[str, Any]) -> bytes:
    """An object as one line."""
    return json_text(value, indent=None).encode() + b"\n"


def _lock(path: Path, file: FileIO) -> None:
    """Keep other processes out until the file is closed, where the system can do that."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadConfig(
            f"another run writes {path} now; wait for its end, or choose another file with --out"
        ) from None
    except OSError:  # a disk without locks
        return


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path}: {error.strerror or error}; what is done is kept, and the same "
            "command goes on with it"
        ) from error
