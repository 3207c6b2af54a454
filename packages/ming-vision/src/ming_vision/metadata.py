"""The metadata of a picture's file. We need only the orientation.

Pillow reads metadata when it opens a file. Odd metadata can make it refuse a picture that is whole.
So we remove the metadata of a PNG or JPEG before Pillow opens it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"CgBI")
"""Chunks of a PNG that decide what its pixels are."""

_MOTION = (b"acTL", b"fcTL", b"fdAT")
"""Those that make it an animation."""

_LEAST = {0xE0: 16, 0xEE: 14}
"""Segments for applications that decide what the colours of a JPEG are, JFIF's and Adobe's, and how
many bytes such a one has at least: a shorter one decides nothing, and stops Pillow."""

_CLEAR = {0: 2, 2: 6}
"""Bytes of `tRNS` by the colour type of a PNG; of the type with a palette any number."""

_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\b")
_MOST = 1 << 20
"""Bytes of EXIF or XMP that are looked at."""


def without_metadata(data: bytes, animated: bool = False) -> bytes:
    """A PNG or JPEG with nothing in it but what its pixels are made of; other files as they are.

    animated: those of all pictures of a PNG, not only of the first.
    """
    if data.startswith(_PNG):
        colours, more = data[25:26], _MOTION if animated else ()
        kept = (c for name, c in _chunks(data) if name in more or _decides(name, c, colours))
        return _PNG + b"".join(kept)
    if data.startswith(_JPEG):
        segments = list(_segments(data))
        return b"".join(part for mark, part in segments if not _is_metadata(mark, len(part)))
    return data


def is_animated_png(data: bytes) -> bool:
    """Whether a PNG announces more than one picture."""
    chunks = _chunks(data) if data.startswith(_PNG) else iter(())
    return any(name == b"acTL" and chunk[8:12] > b"\0\0\0\1" for name, chunk in chunks)


def jpeg_scans(data: bytes) -> int:
    """How many passes over its pixels a JPEG asks for."""
    # Within a pass the byte FF is followed by 00 or by a restart mark.
    return sum(segment.count(b"\xff\xda") for mark, segment in _segments(data) if mark == 0xDA)


def orientation_of(image: Image.Image, data: bytes = b"") -> int:
    """The EXIF orientation of an opened picture, 1 to 8; 1 if it cannot be read.

    data: its file, as Pillow may have got it without metadata.
    """
    exif, xmp = _written_in(data) if data else (b"", b"")
    try:
        if exif:
            tags = Image.Exif()
            tags.load(exif)
            found = tags.get(ExifTags.Base.Orientation)
        else:
            found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # nearly everything may be raised about garbage
        found = None
    match = _XMP_ORIENTATION.search(xmp) if found is None else None
    found = int(match[1]) if match else found
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _written_in(data: bytes) -> tuple[bytes, bytes]:
    """EXIF and XMP of a PNG or JPEG, as bytes."""
    exif = xmp = b""
    if data.startswith(_PNG):
        for name, chunk in _chunks(data):
            if name == b"eXIf":
                exif = exif or b"Exif\0\0" + chunk[8 : 8 + min(len(chunk) - 12, _MOST)]
            elif name == b"iTXt" and chunk[8:25] == b"XML:com.adobe.xmp":
                xmp = xmp or chunk[8 : 8 + _MOST]
    elif data.startswith(_JPEG):
        for mark, segment in _segments(data):
            if mark == 0xE1 and segment[4:10] == b"Exif\0\0":
                exif = exif or segment[4:]
            elif mark == 0xE1:
                xmp = xmp or segment[4:]
    return exif, xmp


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and bytes of each chunk of a PNG; of one that broke off, what there is."""
    at = len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end]
        at = end


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Mark and bytes of each segment of a JPEG; the first pass is one with all that follows it."""
    yield 0xD8, data[:2]
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # not where a segment can begin: left to the decoder
            break
        mark = data[at + 1]
        if mark == 0xFF:  # filling
            at += 1
            continue
        if mark == 0xDA or mark == 0x01 or 0xD0 <= mark <= 0xD9:
            break
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + size
        if size < 2 or end > len(data):  # the decoder says what is wrong
            break
        yield mark, data[at:end]
        at = end
    yield 0xDA, data[at:]


def _is_metadata(mark: int, size: int) -> bool:
    return mark == 0xFE or (0xE0 <= mark <= 0xEF and size < _LEAST.get(mark, 1 << 16))


def _decides(name: bytes, chunk: bytes, colours: bytes) -> bool:
    """Whether a chunk of a PNG decides what its pixels are; a damaged `tRNS` does not."""
    if name != b"tRNS":
        return name in _PIXELS
    body, checksum = chunk[8:-4], chunk[-4:]
    sound = zlib.crc32(name + body).to_bytes(4, "big") == checksum
    kind = colours[0] if colours else 0
    return sound and (kind == 3 or len(body) == _CLEAR.get(kind))
