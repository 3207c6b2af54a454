"""Rows out of files: JSON lines, JSON lists, tables (parquet) and shards (tar).

Every row can be read by its number, and nothing is kept of it. Nothing in these files is trusted: a
shard is read in place and never unpacked, its links are not followed, and sizes are bounded.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
import stat
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from ming_core.errors import BadConfig, BadMedia, MissingPlugin
from ming_core.fields import shown
from ming_core.media import kind_of_name
from ming_core.media.files import MediaFile, shortened
from ming_core.text import one_line
from ming_recipes.training.dialects import MissingMedia, ReadRow, Row, read_row
from ming_recipes.training.records import BadRow, Record

LONGEST_ROW = 1 << 26
"""Bytes of the text of one row."""

LARGEST_LIST = 1 << 31
"""Bytes of a JSON list, which is read as a whole."""

LARGEST_MEMBER = 1 << 30
"""Bytes of a medium in a shard."""

LARGEST_GROUP = 1 << 32
"""Bytes of a group of rows of a table, which are read together."""

ROWS = (".jsonl", ".ndjson", ".json", ".parquet", ".tar")
"""Endings of files with rows."""

Report = Callable[[BadRow], None]


class Source(Protocol):
    """The rows of one file."""

    @property
    def path(self) -> Path: ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row:
        """Raises BadRow."""
        ...

    def where(self, index: int) -> str: ...


class Rows(Sequence[Record]):
    """The rows of a data set, read when they are asked for.

    `rows[i]` raises BadRow for a row that cannot be trained on.
    """

    def __init__(self, sources: Sequence[Source], dataset: str, read: ReadRow = read_row) -> None:
        self.sources = sources
        self.dataset = dataset
        self.read = read
        self._ends = list(accumulate(map(len, sources)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]
        source, number = self._place(index)
        return replace(self.read(source.row(number)), dataset=self.dataset)

    def where(self, index: int) -> str:
        """The place of a row, for messages."""
        source, number = self._place(index)
        return source.where(number)

    def fingerprint(self) -> str:
        """Changes when a file does: a hash of the names, sizes and times of the files."""
        digest = hashlib.sha256()
        for source in self.sources:
            found = source.path.stat()
            digest.update(f"{source.path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _place(self, index: int) -> tuple[Source, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self.sources[number], index - (self._ends[number - 1] if number else 0)


def open_rows(
    path: str | Path,
    dataset: str = "",
    media: str | Path | None = None,
    read: ReadRow = read_row,
    report: Report | None = None,
) -> Rows:
    """The rows of a file, of a folder, or of all files that a pattern such as `rows-*.tar` names.

    Args:
        dataset: Its name; the name of the path by default.
        media: The folder that media are named in. By default it is the folder of the file.
        read: What makes a record of a row.
        report: Is given what is wrong with a broken file, and the others and the whole samples of
            a broken shard are kept. By default a broken file is refused.

    Raises BadConfig for a file that cannot be read, or that has no rows, and MissingPlugin.
    """
    files = _files(path)
    root = None if media is None else Path(media)
    if root is not None and not root.is_dir():
        raise BadConfig(f"there is no folder {str(media)!r} with media; check the path")
    sources: list[Source] = []
    for file in files:
        try:
            sources.append(_open(file, root or file.parent, report))
        except BadConfig as error:
            if report is None or len(files) == 1:
                raise
            report(BadRow("broken file", file.name, str(error)))
    rows = Rows(sources, dataset or Path(path).name.partition(".")[0] or "data", read)
    if not len(rows):
        raise BadConfig(f"{path} has no rows; expected one conversation a row")
    return rows


def _files(path: str | Path) -> list[Path]:
    text = str(path)
    found = Path(path)
    try:
        exists, folder = found.exists(), found.is_dir()
    except (OSError, ValueError) as error:
        raise BadConfig(f"cannot read {shortened(text)!r}: {error}") from None
    if folder:
        return _of_folder(found)
    if exists:
        return [found]
    if any(mark in text for mark in "*?["):
        named = sorted(Path(name) for name in glob.glob(text))
        if named:
            return named
        raise BadConfig(f"no file is named like {text!r}; check the pattern")
    raise BadConfig(f"there is no file {shortened(text)!r} with rows; check the path")


def _of_folder(folder: Path) -> list[Path]:
    """The files of a folder that make up one data set: one file, or the numbered pieces of one."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in ROWS and p.is_file())
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise BadConfig(f"the folder {str(folder)!r} has no file of rows ({', '.join(ROWS)})")
    if len({(re.sub(r"[-_.]?\d+.*", "", path.stem), path.suffix) for path in found}) > 1:
        names = ", ".join(path.name for path in found[:4])
        raise BadConfig(
            f"the folder {str(folder)!r} holds several sets of rows ({names}); name one, or a "
            "pattern such as 'train-*.tar'"
        )
    return found


def _open(path: Path, root: Path, report: Report | None) -> Source:
    kind = path.suffix.lower()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadConfig(f"{path} is no regular file; save the rows to a file first")
        if kind == ".parquet":
            return Table.open(path, root)
        if kind == ".tar":
            return Shard.open(path, report)
        if kind in (".gz", ".tgz", ".zst", ".zip", ".bz2", ".xz"):
            raise BadConfig(f"{path} is packed; unpack it first, as rows are read in any order")
        if kind == ".json" and _first_character(path) == b"[":
            return JsonList.open(path, root)
        if kind not in ROWS:
            raise BadConfig(f"{path} is no file of rows; its name must end in {', '.join(ROWS)}")
        return JsonLines.open(path, root)
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror or error}; check the path") from None


def _first_character(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]


@dataclass(frozen=True)
class InFolder:
    """Media named by their paths; those that are not absolute lie in `root`."""

    root: Path

    def __call__(self, kind: str, name: str) -> Any:
        head = name[:8].lower()
        if head.startswith(("data:", "file:/")):
            found = MediaFile.find(name, kind)
            if found.path is None:
                return found
            path = found.path
        elif "://" in name:
            raise BadMedia(
                f"{shortened(name)!r} is a web address, which is not fetched; download the {kind} "
                "and give its path"
            )
        else:
            path = self.root / name
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            raise MissingMedia(f"there is no {kind} file {shortened(str(path))!r}") from None
        if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and kind == "video"):
            return str(path)
        raise MissingMedia(f"{shortened(str(path))!r} is no {kind} file; name a file")


def parse_object(data: bytes, where: str) -> Mapping[str, Any]:
    """A JSON object. Raises BadRow."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadRow("broken row", where, "the row is no UTF-8 text") from None
    except ValueError as error:
        reason = getattr(error, "msg", None) or str(error)
        raise BadRow(
            "broken row", where, f"the row is no JSON ({one_line(reason)}); write one object a line"
        ) from None
    except RecursionError:
        raise BadRow("broken row", where, "the row holds lists in lists without end") from None
    if not isinstance(value, Mapping):
        raise BadRow("broken row", where, f"the row is {shown(value)}; it must be an object")
    return value


@dataclass(frozen=True)
class JsonLines:
    """A file with a JSON object on each line. offsets: the bytes where they begin, and the end.

    lines: their numbers in the file, as blank lines are no rows.
    """

    path: Path
    find: InFolder
    offsets: array[int]
    lines: array[int]

    @classmethod
    def open(cls, path: Path, root: Path) -> JsonLines:
        offsets, lines, place = array("q"), array("q"), 0
        with path.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise BadConfig(f"{path} is UTF-16 text; save it as UTF-8")
            file.seek(0)
            number, blank = 1, True
            while piece := file.readline(1 << 20):
                if blank and piece.strip():
                    offsets.append(place)
                    lines.append(number)
                    blank = False
                place += len(piece)
                if piece.endswith(b"\n"):
                    number, blank = number + 1, True
        offsets.append(place)
        return cls(path, InFolder(root), offsets, lines)

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, index: int) -> str:
        return f"{self.path.name} line {self.lines[index]}"

    def row(self, index: int) -> Row:
        where = self.where(index)
        size = self.offsets[index + 1] - self.offsets[index]
        if size > LONGEST_ROW:
            raise BadRow(
                "broken row", where, f"the row has {size} bytes; a row has at most {LONGEST_ROW}"
            )
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            data = file.read(size)
        return Row(
            parse_object(data, where), where, _id_of(self.path, self.lines[index]), self.find
        )


@dataclass(frozen=True)
class JsonList:
    """A file with one JSON list of objects, which is kept in memory."""

    path: Path
    find: InFolder
    values: Sequence[Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path, root: Path) -> JsonList:
        if path.stat().st_size > LARGEST_LIST:
            raise BadConfig(
                f"{path} is larger than {LARGEST_LIST} bytes; write one object a line (.jsonl)"
            )
        try:
            values = json.loads(path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise BadConfig(f"{path} is no UTF-8 text; save it as UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise BadConfig(f"{path} is no JSON: {one_line(str(error))}; mend the file") from None
        return cls(path, InFolder(root), values)

    def __len__(self) -> int:
        return len(self.values)

    def where(self, index: int) -> str:
        return f"{self.path.name} row {index + 1}"

    def row(self, index: int) -> Row:
        value, where = self.values[index], self.where(index)
        if not isinstance(value, Mapping):
            raise BadRow("broken row", where, f"the row is {shown(value)}; it must be an object")
        return Row(value, where, _id_of(self.path, index + 1), self.find)


class Table:
    """A parquet file. The group of rows that was read last is kept."""

    def __init__(self, path: Path, find: InFolder, sizes: Sequence[int]) -> None:
        self.path, self.find = path, find
        self._ends = list(accumulate(sizes))
        self._held: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_held": None}

    @classmethod
    def open(cls, path: Path, root: Path) -> Table:
        pyarrow, file = _parquet(path)
        try:
            found = file.metadata
            groups = [found.row_group(i) for i in range(found.num_row_groups)]
            large = max((group.total_byte_size for group in groups), default=0)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise _no_table(path, error) from None
        finally:
            file.close()
        if large > LARGEST_GROUP:
            raise BadConfig(
                f"{path} has a group of rows with {large} bytes, and at most {LARGEST_GROUP} are "
                "read together; write it with a smaller row_group_size"
            )
        return cls(path, InFolder(root), [group.num_rows for group in groups])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        return f"{self.path.name} row {index + 1}"

    def row(self, index: int) -> Row:
        where = self.where(index)
        group = bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        table = self._group(group, where)
        pyarrow = _pyarrow(self.path)
        try:
            (values,) = table.slice(index - start, 1).to_pylist()
        except (pyarrow.ArrowException, ValueError, ArithmeticError) as error:
            raise BadRow("broken row", where, _reason(error)) from None
        values = {key: value for key, value in values.items() if value is not None}
        return Row(values, where, _id_of(self.path, index + 1), self.find)

    def _group(self, number: int, where: str) -> Any:
        if self._held is None or self._held[0] != number:
            self._held = None
            pyarrow, file = _parquet(self.path)
            try:
                self._held = number, file.read_row_group(number)
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                raise BadRow("broken file", where, _reason(error)) from None
            finally:
                file.close()
        return self._held[1]


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingPlugin(
            f"reading {path.name} needs pyarrow: pip install 'ming-recipes[parquet]'"
        ) from None
    return pyarrow


def _parquet(path: Path) -> tuple[Any, Any]:
    pyarrow = _pyarrow(path)
    from pyarrow import parquet

    try:
        return pyarrow, parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _no_table(path, error) from None


def _no_table(path: Path, error: Exception) -> BadConfig:
    return BadConfig(f"{path} is no whole parquet file: {_reason(error)}; copy or write it again")


def _reason(error: Exception) -> str:
    return one_line((str(error).splitlines() or [""])[0])[:200]


@dataclass(frozen=True)
class Member:
    """A file in a shard. start: its first byte. link: it is no file, but leads to another place."""

    name: str
    start: int
    size: int
    link: bool = False


@dataclass(frozen=True)
class Shard:
    """A tar file of samples, each of which is `<key>.json` and the media `<key>.<suffix>`.

    Members that follow each other and share what is before the first point of their name are one
    sample.
    """

    path: Path
    samples: Sequence[tuple[str, Sequence[Member]]] = field(repr=False)

    @classmethod
    def open(cls, path: Path, report: Report | None) -> Shard:
        samples: list[tuple[str, list[Member]]] = []
        try:
            for member in _members(path):
                key = _key(member.name)
                if not samples or samples[-1][0] != key:
                    samples.append((key, []))
                samples[-1][1].append(member)
        except (tarfile.TarError, ValueError, EOFError, ArithmeticError, MemoryError) as error:
            after = f" after {len(samples)} samples" if samples else ""
            reason = f"the shard breaks off{after} ({_reason(error)}); copy or write it again"
            if report is None:
                raise BadConfig(f"{path}: {reason}") from None
            report(BadRow("broken file", path.name, reason))
            samples = samples[:-1]
        return cls(path, samples)

    def __len__(self) -> int:
        return len(self.samples)

    def where(self, index: int) -> str:
        return f"{self.path.name} sample {self.samples[index][0]}"

    def row(self, index: int) -> Row:
        key, members = self.samples[index]
        where = self.where(index)
        for member in members:
            self._check(member, where)
        found = next((m for m in members if _suffix(m.name) == "json"), None)
        if found is None:
            raise BadRow("broken row", where, f"the sample has no {Path(key).name}.json")
        if found.size > LONGEST_ROW:
            raise BadRow(
                "broken row",
                where,
                f"the row has {found.size} bytes; a row has at most {LONGEST_ROW}",
            )
        values = parse_object(self._read(found, where), where)
        media = [m for m in members if m is not found]
        spare: dict[str, list[str]] = {}
        for member in media:
            kind = kind_of_name(member.name)
            if kind is not None:
                spare.setdefault(kind.kind, []).append(member.name)
        return Row(values, where, key, _InShard(self, key, media, where), spare)

    def medium(self, member: Member, kind: str, where: str) -> MediaFile:
        """A medium of the shard in memory."""
        return MediaFile(kind, Path(self.path.name, member.name), self._read(member, where))

    def _read(self, member: Member, where: str) -> bytes:
        with self.path.open("rb") as file:
            file.seek(member.start)
            data = file.read(member.size)
        if len(data) < member.size:
            raise BadRow("broken file", where, f"{member.name} breaks off; copy the shard again")
        return data

    def _check(self, member: Member, where: str) -> None:
        if member.link:
            raise BadRow(
                "broken file",
                where,
                f"{member.name!r} is a link or a device, which is not followed; store the file",
            )
        if member.name.startswith(("/", "\\")) or ".." in Path(member.name).parts:
            raise BadRow("broken file", where, f"{member.name!r} leads out of the shard")
        if member.size > LARGEST_MEMBER:
            raise BadRow(
                "broken file",
                where,
                f"{member.name!r} has {member.size} bytes; a member has at most {LARGEST_MEMBER}",
            )


@dataclass(frozen=True)
class _InShard:
    """Media of one sample: named by the whole name, by the suffix, or by the key before it."""

    shard: Shard
    key: str
    members: Sequence[Member]
    where: str

    def __call__(self, kind: str, name: str) -> Any:
        if name[:5].lower() == "data:":
            return MediaFile.find(name, kind)
        base = Path(self.key).name
        for member in self.members:
            own = _suffix(member.name)
            if name in (member.name, f"{base}.{own}", own) or own.startswith(f"{name}."):
                return self.shard.medium(member, kind, self.where)
        raise MissingMedia(
            f"the sample has no {kind} {shortened(name)!r}; a shard holds all of its media"
        )


def _members(path: Path) -> Iterator[Member]:
    """What a tar file holds, folders left out. Raises TarError where it breaks off."""
    size = path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        while (found := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # they would grow with the shard
            if found.isdir():
                continue
            odd = not found.isreg() or found.issparse()
            yield Member(found.name, found.offset_data, found.size, odd)
            if found.offset_data + found.size > size:
                raise tarfile.ReadError(f"{one_line(found.name)} is not whole")
        end = tar.offset
    # The library takes whatever is no header for the end of the file.
    with path.open("rb") as file:
        file.seek(end)
        if file.read(512) != bytes(512):
            raise tarfile.ReadError("its end mark is missing")


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _suffix(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _id_of(path: Path, number: int) -> str:
    return f"{path.name}:{number}"
