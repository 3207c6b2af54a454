"""Where the sounds of a file begin and end: joined files are taken apart, sizes in headers mended.

FFmpeg believes the sizes of wav, aiff and the like, and of several files that were joined end to
end it hears the first one. Here the bytes decide: sound goes on for as long as no other part of
the file begins.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ming_core.media.boxes import boxes
from ming_core.media.files import MediaFile

Handle = io.BytesIO | io.FileIO


@dataclass(frozen=True)
class Link:
    """One of the sounds of a file, from byte to byte.

    patches: what its header should say, by place. missing: bytes of sound that it promises and the
    file does not hold. options: for FFmpeg.
    """

    start: int
    end: int
    patches: dict[int, bytes] = field(default_factory=dict)
    missing: int = 0
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Layout:
    """A format of chunks, each with a name, a size, and so many bytes.

    magic: what the file begins with. form: what stands behind its size. first: where the first
    chunk begins. data: the name of the one with samples. size: how sizes are packed. whole: they
    count name and size, too. align: chunks begin at multiples of it.
    """

    magic: bytes
    form: bytes
    first: int
    data: bytes
    size: str
    whole: bool = False
    align: int = 2

    @property
    def head(self) -> int:
        """Bytes of name and size."""
        return len(self.data) + struct.calcsize(self.size)

    def begins(self, head: bytes) -> bool:
        return head.startswith(self.magic) and head[self.first - len(self.form) :].startswith(
            self.form
        )


_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""How the names of chunks in w64 end."""

_LAYOUTS = (
    _Layout(b"RIFF", b"WAVE", 12, b"data", "<I"),
    _Layout(b"RIFX", b"WAVE", 12, b"data", ">I"),
    _Layout(b"RF64", b"WAVE", 12, b"data", "<I"),
    _Layout(b"BW64", b"WAVE", 12, b"data", "<I"),
    _Layout(b"FORM", b"AIFF", 12, b"SSND", ">I"),
    _Layout(b"FORM", b"AIFC", 12, b"SSND", ">I"),
    _Layout(b"caff", b"", 8, b"data", ">Q", align=1),
    _Layout(b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000"), b"wave" + _GUID, 40,
            b"data" + _GUID, "<Q", whole=True, align=8),
)  # fmt: skip

_WAV_OPTIONS = {"max_size": "32768", "probesize": "65536"}
"""Large packets, and few of them to look at: nothing is to be guessed in these formats."""

_ENDLESS = {4: 0x7FFF_F000, 8: 1 << 60}
"""By the width of a size: from here on the writer did not know it, as in a pipe."""

MAX_CHUNKS = 100_000
"""Of one sound. No writer makes so many, and somebody might wish to keep us busy."""

_OGG, _FLAC, _EBML = b"OggS\0\2", b"fLaC", b"\x1aE\xdf\xa3"
_FLV, _TTA, _VOC = b"FLV\1", b"TTA1\1\0", b"Creative Voice File\x1a"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MARKS = (_OGG, _FLAC, _EBML, _FLV, _TTA, _VOC, _ASF)
"""With what each of several joined files begins; _EBML is that of mkv and webm, _ASF of wma."""

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof")
"""What an mp4 may begin with, behind a size."""


def links(file: MediaFile) -> list[Link]:
    """The sounds of a file in their order, at least one. Raises BadMedia if it cannot be read."""
    with file.open() as handle, file.explained():
        length = handle.seek(0, io.SEEK_END)
        head = _at(handle, 0, 64)
        mark = next((mark for mark in _MARKS if head.startswith(mark[:4])), None)
        if mark is not None:
            starts = sorted({0, *_starts(handle, mark)})
            pairs = zip(starts, [*starts[1:], length])
            return [Link(*pair, missing=_missing(handle, mark, *pair)) for pair in pairs]
        found: list[Link] = []
        start: int | None = 0
        while start is not None:
            link, start = _link(handle, start, length)
            found.append(link)
        return found


class View(io.RawIOBase):
    """A link as a file of its own, which is read through the handle of the whole."""

    def __init__(self, handle: Handle, link: Link) -> None:
        self._handle, self._link, self._position = handle, link, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._link.end - self._link.start
        self._position = max(0, offset + (0, self._position, size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        first = self._link.start + self._position
        left = max(0, self._link.end - first)
        data = _at(self._handle, first, left if size < 0 else min(size, left))
        self._position += len(data)
        for place, value in self._link.patches.items():
            at, until = place - first, place - first + len(value)
            if at < len(data) and until > 0:  # also where a read ends within it
                inside = value[max(0, -at) : len(data) - at]
                data = data[: max(0, at)] + inside + data[max(0, at) + len(inside) :]
        return data


def _link(handle: Handle, start: int, length: int) -> tuple[Link, int | None]:
    """The sound that begins at a byte, and where the next one begins."""
    head = _at(handle, start, 64)
    if head.startswith(b".snd"):
        return _au(handle, start, length)
    if head[4:8] in _BOXES:
        return _mp4(handle, start, length)
    if head.startswith((b"ID3", b"\xff")):
        return Link(start, length, missing=_missing_mp3(handle, start, length)), None
    layout = next((layout for layout in _LAYOUTS if layout.begins(head)), None)
    if layout is None:
        return Link(start, length), None
    return _chunked(handle, layout, start, length)


def _chunked(handle: Handle, layout: _Layout, start: int, length: int) -> tuple[Link, int | None]:
    patches: dict[int, bytes] = {}
    missing, wide = 0, None
    at, sound = start + layout.first, False
    width = struct.calcsize(layout.size)
    for _ in range(MAX_CHUNKS):
        if at + layout.head > length:
            break
        if sound and _another(handle, at):
            return _mended(layout, start, at, patches, missing), at
        name, size = _chunk(handle, layout, at)
        body = at + layout.head
        if name == b"ds64":
            wide = body + 8  # here RF64 has the size of its data
        if name != layout.data or sound:
            at = _aligned(body + max(0, size), start, layout)
            continue
        sound = True
        place, packed = at + len(layout.data), layout.size
        if wide is not None and size == 0xFFFF_FFFF:
            place, packed = wide, "<Q"
            size = struct.unpack(packed, _at(handle, place, 8))[0]
        end = _end_of_sound(handle, layout, start, body, size, length)
        if end == body:  # FFmpeg would take all that follows for sound
            following = end if _another(handle, end) else None
            return _mended(layout, start, end, patches, missing), following
        if end - body != size:
            missing = max(0, body + size - length) if size < _ENDLESS[width] else 0
            written = end - body + (layout.head if layout.whole else 0)
            if written < 1 << 8 * struct.calcsize(packed):
                patches[place] = struct.pack(packed, written)
        at = _aligned(end, start, layout)
        if not _goes_on(handle, layout, at, length):
            at = end  # a writer that forgot to align
    return _mended(layout, start, length, patches, missing), None


def _mended(layout: _Layout, start: int, end: int, patches: dict[int, bytes], missing: int) -> Link:
    if patches and layout.magic == b"FORM":  # which is followed by its size, and nothing behind it
        patches[start + 4] = struct.pack(">I", min(end - start - 8, 0xFFFF_FFFF))
    return Link(start, end, patches, missing, _WAV_OPTIONS)


def _end_of_sound(
    handle: Handle, layout: _Layout, start: int, body: int, size: int, length: int
) -> int:
    """Where the samples that begin at `body` end, whatever the header says."""
    claimed = body + size
    if size < _ENDLESS[struct.calcsize(layout.size)] and claimed <= length:
        places = (_aligned(claimed, start, layout), claimed)
        if (size or claimed < length) and any(
            place == length or _goes_on(handle, layout, place, length) for place in places
        ):
            return claimed
    if layout.form == b"WAVE":  # joined pieces of a pipe
        return next((at - 8 for at in _starts(handle, b"WAVEfmt ", body)), length)
    return length


def _goes_on(handle: Handle, layout: _Layout, at: int, length: int) -> bool:
    """Whether another chunk, or another file, begins at a byte rather than more samples."""
    if at + layout.head > length:
        return at >= length - 1
    name, size = _chunk(handle, layout, at)
    named = name[4:] == _GUID if layout.whole else name.isascii() and name.decode().isprintable()
    return _another(handle, at) or (named and 0 <= size <= length - at - layout.head)


def _another(handle: Handle, at: int) -> bool:
    """Whether another file of chunks begins at a byte."""
    head = _at(handle, at, 64)
    return any(layout.begins(head) for layout in _LAYOUTS)


def _au(handle: Handle, start: int, length: int) -> tuple[Link, int | None]:
    head = _at(handle, start, 12)
    if len(head) < 12:
        return Link(start, length), None
    offset, size = struct.unpack(">II", head[4:])
    end = start + offset + size
    if size and _at(handle, end, 4) == b".snd":
        return Link(start, end), end
    missing = max(0, end - length) if size < _ENDLESS[4] else 0
    return Link(start, length, {start + 8: b"\xff" * 4}, missing), None


def _mp4(handle: Handle, start: int, length: int) -> tuple[Link, int | None]:
    end = start
    for at, name, size in boxes(handle, start, MAX_CHUNKS):
        if at > start and name == b"ftyp":
            break
        if size < 8 or at + size > length:  # the last one may do without a size
            return Link(start, length, missing=max(0, at + size - length)), None
        end = at + size
    return (Link(start, end), end) if end < length else (Link(start, length), None)


def _missing_mp3(handle: Handle, start: int, length: int) -> int:
    """Bytes less than the first frame counts, if it is one that counts."""
    head = _at(handle, start, 10)
    if head.startswith(b"ID3") and len(head) == 10:
        start += 10 + sum(byte << 7 * i for i, byte in enumerate(reversed(head[6:])))
    frame = _at(handle, start, 256)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if at < 0 or not flags & 2:
        return 0
    place = at + 8 + 4 * (flags & 1)
    return max(0, start + int.from_bytes(frame[place : place + 4], "big") - length)


def _missing(handle: Handle, mark: bytes, start: int, end: int) -> int:
    if mark == _OGG:
        return _missing_page(handle, start, end)
    return _missing_cluster(handle, start, end) if mark == _EBML else 0


def _missing_page(handle: Handle, start: int, end: int) -> int:
    """Bytes that the last page of Ogg lacks; some number if it is not the last that was meant."""
    first = max(start, end - (1 << 17))  # a page has at most 64 kB
    tail = _at(handle, first, end - first)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return 0
    lacks = at + _page(tail[at : at + 282]) - len(tail)
    return max(0, lacks) or (0 if tail[at + 5 : at + 6] >= b"\4" else 1)


def _page(head: bytes) -> int:
    """Bytes of the page of Ogg that begins so."""
    count = head[26] if len(head) > 26 else 0
    return 27 + count + sum(head[27 : 27 + count])


def _missing_cluster(handle: Handle, start: int, end: int) -> int:
    """Bytes less than the header of an mkv says, if it does."""
    head = _at(handle, start, 4096)
    at, size = _ebml_size(head, 4)
    at += size
    if head[at : at + 4] != b"\x18S\x80\x67":  # the segment, in which all the rest lies
        return 0
    at, size = _ebml_size(head, at + 4)
    return max(0, start + at + size - end)


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """(where it ends, a size of 1 to 8 bytes); unknown ones are 0."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return at + width, 0 if value == (1 << 7 * width) - 1 else value


def _chunk(handle: Handle, layout: _Layout, at: int) -> tuple[bytes, int]:
    head = _at(handle, at, layout.head)
    name = head[: len(layout.data)]
    size = struct.unpack(layout.size, head[len(name) :])[0]
    return name, size - layout.head if layout.whole else size


def _aligned(at: int, start: int, layout: _Layout) -> int:
    return start + -(-(at - start) // layout.align) * layout.align


def _starts(handle: Handle, mark: bytes, first: int = 0) -> Iterator[int]:
    """Where a mark stands from `first` on, and a file begins there."""
    size, behind = 1 << 20, -1
    at = first
    while len(block := _at(handle, at, size + len(mark) - 1)) >= len(mark):
        found = block.find(mark)
        while found >= 0:
            place = at + found
            head = _at(handle, place, 27 + 255)
            if mark != _OGG:
                if _begins(head, mark):
                    yield place
            else:  # of pages of Ogg in a row, one for each track, the first
                if place != behind:
                    yield place
                behind = place + _page(head)
            found = block.find(mark, found + 1)
        at += size


def _begins(head: bytes, mark: bytes) -> bool:
    """Whether it is more than four bytes that are there by chance."""
    if mark == _EBML:
        return b"webm" in head[:64] or b"matroska" in head[:64]
    if mark == _FLV:
        return head[5:9] == b"\0\0\0\x09"
    return mark != _FLAC or head[4:8] in (b"\0\0\0\x22", b"\x80\0\0\x22")


def _at(handle: Handle, place: int, size: int) -> bytes:
    handle.seek(place)
    return handle.read(size) or b""
