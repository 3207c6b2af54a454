"""What a file is, told by its first bytes. Its name may be wrong, and a pipe has no name."""

from __future__ import annotations

from io import BytesIO, FileIO
from typing import Literal

from ming_core.media.boxes import boxes

Kind = Literal["image", "audio", "video"]

HEAD = 1 << 18
"""How many bytes are looked at."""

MOST_OF_GIF = 1 << 24
"""Most bytes in which we look for the second picture of a GIF."""

_STARTS: dict[bytes, Kind] = {
    b"\x89PNG\r\n\x1a\n": "image",
    b"\xff\xd8\xff": "image",
    b"GIF8": "image",
    b"BM": "image",
    b"II*\0": "image",
    b"MM\0*": "image",
    b"II+\0": "image",
    b"MM\0+": "image",
    b"\0\0\0\x0cjP  ": "image",
    b"\xffO\xffQ": "image",
    b"\0\0\0\x0cJXL ": "image",
    b"\xff\x0a": "image",
    b"8BPS": "image",
    b"\0\0\1\0": "image",
    b"%!PS": "image",
    b"%PDF": "image",
    b"fLaC": "audio",
    b"ID3": "audio",
    b"RF64": "audio",
    b"BW64": "audio",
    b"riff\x2e\x91\xcf\x11": "audio",
    b"caff": "audio",
    b".snd": "audio",
    b"#!AMR": "audio",
    b"wvpk": "audio",
    b"MAC ": "audio",
    b"TTA1": "audio",
    b"\x0bw": "audio",
    b"\0\0\1\xba": "video",
    b"\0\0\1\xb3": "video",
    b"FLV\1": "video",
    b"YUV4MPEG2": "video",
    b"DKIF": "video",
}
"""Formats of pictures that cannot be read are here, too: the reader then names the format."""

_RIFF: dict[bytes, Kind] = {b"WAVE": "audio", b"WEBP": "image", b"AVI ": "video"}

_STILLS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
"""Brands of mp4 files that hold pictures."""

_WEBM, _ASF, _OGG = b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"OggS"
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_OGG_VIDEO = (b"\x80theora", b"\x01video", b"BBCD", b"OVP80")


def kind_of(handle: BytesIO | FileIO) -> Kind | None:
    """Whether a file is a picture, a sound or a video; None if its bytes do not tell.

    handle: the file at its start. In an mp4, the list of tracks may lie far behind the start; we
    look for it there.
    """
    head = handle.read(HEAD)
    if head[:4] == b"GIF8":
        return "video" if _shows_several(head + handle.read(MOST_OF_GIF)) else "image"
    if _is_animated(head, handle):
        return "video"
    if head[4:8] == b"ftyp" or head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        if head[8:12] in _STILLS and head[4:8] == b"ftyp":
            return "image"
        return _by_tracks(_moov(handle))
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio"
    if head.startswith(_OGG):
        return "video" if any(mark in head for mark in _OGG_VIDEO) else "audio"
    if head.startswith(_ASF):
        return "video" if _ASF_VIDEO in head else "audio"
    if head.startswith(_WEBM):  # TrackType 1 is video, 2 sound
        return "audio" if b"\x83\x81\x02" in head and b"\x83\x81\x01" not in head else "video"
    if any(len(head) > 2 * size and head[at::size][:3] == b"GGG" for at, size in _PACKETS):
        return "video"
    return _by_first_frame(head)


_PACKETS = ((0, 188), (4, 192), (0, 204))
"""Where packets of MPEG-TS begin, each with the letter G, and how long they are."""


def _by_first_frame(head: bytes) -> Kind | None:
    """Streams without a header: MPEG audio and AAC, and the plain pictures P1 to P6."""
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "image"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        adts = head[1] & 0xF6 == 0xF0
        layer = head[1] & 0x06 and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C
        return "audio" if adts or layer else None
    return None


def _is_animated(head: bytes, handle: BytesIO | FileIO) -> bool:
    """Whether a PNG or a WebP is more than one picture."""
    if head.startswith(b"\x89PNG"):
        at = head.find(b"acTL", 0, head.find(b"IDAT"))
        return at > 0 and int.from_bytes(head[at + 4 : at + 8], "big") > 1
    animated = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] != b""
    if not animated or not head[20] & 2:
        return False
    at = head.find(b"ANMF")
    if at < 0:
        return True
    size = int.from_bytes(head[at + 4 : at + 8], "little")
    handle.seek(at + 8 + size + size % 2)
    return handle.read(4) == b"ANMF"


def _shows_several(data: bytes) -> bool:
    """Whether a second picture begins in the blocks of a GIF."""
    if len(data) < 13:
        return False
    at, pictures = 13 + _table(data[10]), 0
    while at + 10 < len(data) and pictures < 2:
        if data[at] == 0x2C:
            pictures += 1
            at += 11 + _table(data[at + 9])
        elif data[at] == 0x21:
            at += 2
        else:
            break
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return pictures > 1


def _table(flags: int) -> int:
    """Bytes of a table of colours."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _moov(handle: BytesIO | FileIO) -> bytes:
    """The list of tracks of an mp4, which may lie at its end; b"" where it is not found."""
    for at, name, size in boxes(handle, most=64):
        if name == b"moov":
            handle.seek(at)
            return handle.read(min(max(size, 8), HEAD * 16))
    return b""


def _by_tracks(moov: bytes) -> Kind | None:
    """Of a phone's photo in motion, of a film and of a sound in one format."""
    # `hdlr`, 4 bytes of version, 4 of a type that QuickTime fills in, and what the track is.
    handlers = [moov[i + 12 : i + 16] for i in _places(moov, b"hdlr")]
    if b"vide" in handlers:
        return "video"
    return "audio" if b"soun" in handlers else None


def _places(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places
