"""The file of a picture, sound or video: how it is found, opened, and named in errors."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ming_core.errors import BadMedia

MediaSource = str | Path | bytes | bytearray | memoryview
"""A path, a `file://` URI or the bytes of a file."""

_WEB = ("http://", "https://", "rtsp://")


@dataclass(frozen=True)
class MediaFile:
    """A file on disk or in memory. kind: what errors call it: "image", "sound" or "video"."""

    kind: str
    path: Path | None
    data: bytes = b""

    @classmethod
    def find(cls, source: MediaSource, kind: str) -> MediaFile:
        """Raises BadMedia for an address of the web; the disk is asked only when it is opened."""
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(kind, None, bytes(source))
        address = str(source)
        if address.lower().startswith(_WEB):
            raise BadMedia(
                f"{shortened(address)!r} is a web address, which is not fetched; download the "
                f"{kind} and give its path"
            )
        if address.lower().startswith("file://"):
            address = unquote(urlsplit(address).path)
        return cls(kind, Path(address))

    @property
    def name(self) -> str:
        """How errors name it."""
        return f"the {self.kind} data" if self.path is None else str(self.path)

    def address(self) -> str | io.BytesIO:
        """What FFmpeg opens. The scheme keeps names such as `concat:a|b` names of files."""
        return io.BytesIO(self.data) if self.path is None else f"file:{self.path.absolute()}"

    @property
    def folder(self) -> Path | None:
        """Its path if that leads to a folder."""
        # Unlike `Path.is_dir` this takes any text.
        return self.path if self.path is not None and os.path.isdir(self.path) else None

    def read(self) -> bytes:
        """All of it, also from a pipe. Raises BadMedia as `open` does."""
        with self._explained():
            return self.data if self.path is None else self.path.read_bytes()

    def open(self) -> io.BytesIO | io.FileIO:
        """Its bytes for who goes back and forth or reads twice, so that a pipe will not do.

        Unbuffered, as a library may read on from the descriptor. Raises BadMedia for a folder, for
        what is not there and for what may not be read.
        """
        with self._explained():
            if self.path is None:
                return io.BytesIO(self.data)
            if not self.path.is_file() and not self.path.is_dir():
                raise FileNotFoundError
            return self.path.open("rb", buffering=0)

    def is_empty(self) -> bool:
        """Whether it holds not a single byte. Raises BadMedia as `open` does."""
        with self.open() as handle:
            return not handle.read(1)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of the system into one sentence."""
        name = repr(shortened(str(self.path)))
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


def shortened(text: str) -> str:
    """A path or address as errors show it: of a long one both ends."""
    return text if len(text) <= 100 else f"{text[:60]}...{text[-30:]}"
