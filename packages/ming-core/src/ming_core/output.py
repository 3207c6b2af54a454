"""The one way in which files and folders are written: one is complete or it is not there.

That holds also when the disk is full, or when the process is killed. Commands ask `check_target`
before the work and `write_file` after it. `replacing` is for who writes a file piece by piece,
`new_folder` for who fills a folder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from ming_core.errors import CannotWrite
from ming_core.text import valid

_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_MOST_LINKS = 40
_PART = ".{key}.part"
"""Name of a file while it is written. A killed process leaves such a file behind."""


@contextmanager
def replacing(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an error.

    The file is written beside `path`, because a rename is safe only inside one file system. All
    bytes are on the disk before the rename. If `path` is a link, the file behind it is replaced.
    The new file gets the mode of the old one. before: where the old file is kept. Raises OSError.
    """
    path = path.resolve()
    part, number = _part(path)
    try:
        with os.fdopen(number, "wb") as file:
            # Before the first byte, so that nobody reads what is private. A new file has no mode to
            # keep, and not every disk has modes.
            with suppress(OSError):
                os.chmod(part, stat.S_IMODE(path.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            path.replace(before)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which appears as `path` when the block ends without an error.

    It is filled beside `path`. An empty folder is replaced, and a link is followed. Raises
    FileExistsError if something lies there, and other OSErrors.
    """
    try:
        path = Path(os.path.realpath(path))
    except ValueError as error:  # a null byte in the path
        raise OSError(errno.EINVAL, str(error)) from error
    if any(path.iterdir()) if path.is_dir() else path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    part = path.with_name(_PART.format(key=uuid4().hex))
    try:
        part.mkdir(parents=True)
        yield part
        if path.is_dir():  # not every system replaces an empty one
            path.rmdir()
        part.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_parts(folder: Path) -> None:
    """Remove the unfinished files of killed processes. No other process may write there now."""
    for part in folder.glob(_PART.format(key="*")):
        part.unlink(missing_ok=True)


def write_file(path: str | Path, content: str | bytes) -> Path:
    """Write a result: text as UTF-8, or bytes. Returns the path as given.

    A link is followed. A file that is there keeps its mode and is replaced in one step. A device, a
    pipe and an open descriptor (`/dev/stdout`) are written into. Raises CannotWrite.
    """
    data = valid(content).encode("utf-8") if isinstance(content, str) else content
    with _explained(path):
        descriptor, target = _descriptor(path), _target(path)
        if descriptor is not None:
            _write_on(descriptor, data)
        elif target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    return Path(path)


def check_target(path: str | Path) -> None:
    """Raises CannotWrite for a path that `write_file` would refuse; leaves everything as it is."""
    with _explained(path):
        descriptor, target = _descriptor(path), _target(path)
        if descriptor is not None:
            os.fstat(descriptor)  # it may be closed
            return
        if target.exists() and not target.is_file():
            if not os.access(target, os.W_OK):
                raise PermissionError
            return
        try:
            part, number = _part(target)
        except OSError:
            if not _may_be_overwritten(target):
                raise
            return
        os.close(number)
        part.unlink()


def names_no_format(path: str | Path) -> bool:
    """Whether a path is a folder, device, pipe or open descriptor, whose suffix says nothing."""
    other = os.path.exists(path) and not os.path.isfile(path)
    return other or _descriptor(path) is not None


def make_folder(path: str | Path) -> Path:
    """Make a folder for results, and those above it, unless it is there. Raises CannotWrite."""
    with _explained(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def _target(path: str | Path) -> Path:
    """What a path leads to in the end. Raises OSError for a folder and for links in a circle."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.is_dir():
        raise IsADirectoryError
    return target


def _replace(target: Path, data: bytes) -> None:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replacing(target))
        except OSError:
            if not _may_be_overwritten(target):
                raise
            target.write_bytes(data)
            return
        file.write(data)


def _part(target: Path) -> tuple[Path, int]:
    """A new file beside the target and its descriptor.

    Nobody can foresee its name, so that no planted link is followed and two writers do not meet.
    """
    path = target.with_name(_PART.format(key=uuid4().hex))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return path, os.open(path, flags, 0o666)


def _sync(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where the system can do that."""
    if os.name == "posix":
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _may_be_overwritten(target: Path) -> bool:
    """Whether a file may be written whose folder takes no new one, as a single mounted file."""
    return target.is_file() and os.access(target, os.W_OK)


def _write_on(descriptor: int, data: bytes) -> None:
    """Write to an open descriptor, behind what was printed there before."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # it may be closed
            stream.flush()
    with os.fdopen(os.dup(descriptor), "wb") as handle:
        handle.write(data)


def _descriptor(path: str | Path) -> int | None:
    """The open descriptor that a path or a link names; what is behind it must not be replaced."""
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if match := _DESCRIPTOR.fullmatch(name):
            return int(match[1])
        if name in _STANDARD or not os.path.islink(name):
            break
        name = os.path.abspath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return _STANDARD.get(name)


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turns errors of the system into one sentence."""
    name = repr(str(path))
    try:
        yield
    except FileNotFoundError:
        parent = Path(path).parent
        folder = repr(str(Path(os.path.realpath(path)).parent if parent.is_dir() else parent))
        raise CannotWrite(
            f"cannot write {name}: there is no folder {folder}; make it or choose another place"
        ) from None
    except IsADirectoryError:
        raise CannotWrite(f"cannot write {name}: it is a folder; name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, PermissionError):
            reason = "permission denied"
        raise CannotWrite(f"cannot write {name}: {reason}; choose another place") from error
