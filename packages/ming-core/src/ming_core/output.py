"""The one way in which results are written: a file is complete or it is not there.

Commands ask `check_target` before the work, and `write_file` writes after it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ming_core.errors import CannotWrite
from ming_core.text import valid

_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_MOST_LINKS = 40


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
            temporary, number = _temporary(target)
        except OSError:
            if not _may_be_overwritten(target):
                raise
            return
        os.close(number)
        temporary.unlink()


def names_no_format(path: str | Path) -> bool:
    """Whether a path leads to a folder, device, pipe or open descriptor, whatever its suffix."""
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
    """Write beside the target, then put it in its place."""
    try:
        temporary, number = _temporary(target)
    except OSError:
        if not _may_be_overwritten(target):
            raise
        target.write_bytes(data)
        return
    try:
        with os.fdopen(number, "wb") as handle:
            # Before the first byte, so that nobody reads what is private. A new file has no mode to
            # keep, and not every disk has modes.
            with suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            handle.write(data)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> tuple[Path, int]:
    """A new file beside the target and its descriptor.

    Nobody can foresee its name, so that no planted link is followed and two writers do not meet.
    """
    path = target.with_name(f".{uuid4().hex}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return path, os.open(path, flags, 0o666)


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
