"""The file of a picture, sound or video: how it is found, opened, and named in errors."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ming_core.errors import BadMedia
from ming_core.media.sniffing import Kind, kind_of
from ming_core.text import one_line

_WEB = ("http://", "https://", "rtsp://")

MOST_PIPED = 1 << 30
"""Most bytes that are read from a pipe. Longer data must come as a file."""


@dataclass(frozen=True)
class MediaFile:
    """A file on disk or in memory.

    Attributes:
        kind: What errors call it: "image", "sound" or "video".
        path: Where it lies; None in memory.
        data: The bytes of a file in memory or of a pipe; None for a file on disk.
        span: First and last byte of the part that `address` names, if several files were joined.
            None is the whole file.
    """

    kind: str
    path: Path | None
    data: bytes | None = None
    span: tuple[int, int] | None = None

    @classmethod
    def find(cls, source: MediaSource, kind: str) -> MediaFile:
        """Make a MediaFile from what a user gave. A regular file is not opened yet.

        A pipe, a device and `-` (standard input) give their bytes only once, so they are read here.
        Raises BadMedia for a web address, a broken `data:` URI, and a pipe that cannot be read or
        does not end.
        """
        if isinstance(source, MediaFile):
            return replace(source, kind=kind)
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(kind, None, bytes(source))
        address = str(source)
        if address.lower().startswith(_WEB):
            raise BadMedia(
                f"{shortened(address)!r} is a web address, which is not fetched; download the "
                f"{kind} and give its path"
            )
        if address[:5].lower() == "data:":
            return cls(kind, None, _from_data_uri(address))
        if address == "-":
            return cls(kind, None)._piped(sys.stdin and getattr(sys.stdin, "buffer", None))
        if address.lower().startswith("file:/"):
            address = _from_uri(address)
        file = cls(kind, Path(address))
        return file._piped(None) if _is_pipe(address) else file

    @property
    def name(self) -> str:
        """How errors name it."""
        return f"the {self.kind} data" if self.path is None else one_line(str(self.path))

    def __str__(self) -> str:
        return self.name

    def address(self) -> str | io.BytesIO:
        """What FFmpeg opens.

        The prefix `file:` is there because FFmpeg would read a name such as `concat:a|b` as a
        command.
        """
        first, end = self.span or (0, None)
        if self.data is not None or self.path is None:
            return io.BytesIO((self.data or b"")[first:end])
        part = "" if end is None else f"subfile,,start,{first},end,{end},,:"
        return f"{part}file:{self.path.absolute()}"

    @property
    def folder(self) -> Path | None:
        """Its path if this is a folder, else None."""
        # Unlike `Path.is_dir` this takes any text.
        return self.path if self.path is not None and os.path.isdir(self.path) else None

    def read(self, most: int = MOST_PIPED) -> bytes:
        """All bytes. Raises BadMedia as `open` does, and for more than `most` bytes."""
        with self.open() as handle, self.explained():
            return self._at_most(handle, most)

    def open(self) -> io.BytesIO | io.FileIO:
        """Open it for reading. The reader may seek.

        The file is unbuffered, because a library may go on reading from the descriptor. Raises
        BadMedia for a folder, for a missing file and for one that may not be read.
        """
        with self.explained():
            if self.data is not None or self.path is None:
                return io.BytesIO(self.data or b"")
            return self.path.open("rb", buffering=0)

    def is_empty(self) -> bool:
        """Whether it has no bytes. Raises BadMedia as `open` does."""
        with self.open() as handle, self.explained():
            return not handle.read(1)

    def content(self) -> Kind | None:
        """Picture, sound or video, as its bytes say; None if they do not tell. Raises BadMedia."""
        with self.open() as handle, self.explained():
            return kind_of(handle)

    def _piped(self, handle: BinaryIO | None) -> MediaFile:
        """The same with the bytes of a pipe in memory."""
        with self.explained():
            if handle is not None:
                return replace(self, data=self._at_most(handle, MOST_PIPED))
            if self.path is None:
                raise FileNotFoundError
            with self.path.open("rb") as opened:
                return replace(self, data=self._at_most(opened, MOST_PIPED))

    def _at_most(self, handle: BinaryIO | io.FileIO, most: int) -> bytes:
        """All that is left of a handle, in steps: what does not end must not fill the memory."""
        pieces, count = [], 0
        while piece := handle.read(min(1 << 20, most + 1 - count)):
            pieces.append(piece)
            count += len(piece)
            if count > most:
                raise BadMedia(
                    f"{self.name} has more than {most >> 20:,} MB; check what it is, and save what "
                    "comes from a pipe to a file"
                )
        return b"".join(pieces)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of the system inside the block into BadMedia with one sentence."""
        name = repr(shortened("-" if self.path is None else str(self.path)))
        try:
            yield
        except FileNotFoundError:
            raise BadMedia(f"there is no {self.kind} file {name}; check the path") from None
        except IsADirectoryError:
            raise BadMedia(f"{name} is a folder; give the path of one {self.kind} file") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            # Without the path, which may be long.
            reason = getattr(error, "strerror", None) or error
            raise BadMedia(f"cannot read the {self.kind} file {name}: {reason}") from error


MediaSource = str | Path | bytes | bytearray | memoryview | MediaFile
"""A path, a `file://` or `data:` URI, `-` for standard input, bytes, or a file found before."""


def shortened(text: str) -> str:
    """A path or address for an error. A long one is cut in the middle."""
    return text if len(text) <= 100 else f"{text[:60]}...{text[-30:]}"


def _is_pipe(address: str) -> bool:
    """Whether a path leads to a pipe, a terminal or a device, which cannot be read twice."""
    try:
        mode = os.stat(address).st_mode
    except (OSError, ValueError):  # `open` explains it
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _from_data_uri(uri: str) -> bytes:
    """The bytes of `data:image/png;base64,...`. Raises BadMedia."""
    from base64 import b64decode

    header, comma, payload = uri.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise BadMedia(f"{shortened(uri)!r} must look like 'data:image/png;base64,...'")
    try:
        return b64decode("".join(payload.split()), validate=True)
    except ValueError as error:
        raise BadMedia(f"the data: URI holds no valid base64: {error}") from error


def _from_uri(address: str) -> str:
    """The path of a `file:` URI, which on Windows begins with a slash and a drive."""
    path = unquote(urlsplit(address).path)
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path
