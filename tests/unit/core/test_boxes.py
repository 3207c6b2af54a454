"""The boxes of an mp4, whatever their sizes say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ming_core.media import Video, media_from_path
from ming_core.media.boxes import boxes

FTYP = (16).to_bytes(4, "big") + b"ftypisom" + bytes(4)


def box(name: bytes, body: bytes = b"", size: int | None = None, wide: bool = False) -> bytes:
    """A box; size: what it says, if that is not the truth."""
    head = 16 if wide else 8
    size = head + len(body) if size is None else size
    packed = (1 if wide else size).to_bytes(4, "big") + name
    return packed + (size.to_bytes(8, "big") if wide else b"") + body


def test_each_box_in_turn() -> None:
    data = FTYP + box(b"free") + box(b"mdat", bytes(30), wide=True) + box(b"moov", b"abc")
    found = [(0, b"ftyp", 16), (16, b"free", 8), (24, b"mdat", 46), (70, b"moov", 11)]
    assert list(boxes(io.BytesIO(data))) == found
    assert list(boxes(io.BytesIO(data), 24)) == found[2:]
    assert list(boxes(io.BytesIO(data), most=2)) == found[:2]
    assert list(boxes(io.BytesIO(data + b"1234567"))) == found
    assert list(boxes(io.BytesIO())) == []


@pytest.mark.parametrize("size", [0, 7, 99, 2**62, 2**63 - 5, 2**64 - 1])
def test_a_size_that_leads_nowhere_is_the_last(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(FTYP + box(b"mdat", bytes(40), size, wide=True))
    with path.open("rb", buffering=0) as handle:
        assert list(boxes(handle)) == [(0, b"ftyp", 16), (16, b"mdat", size)]
    assert type(media_from_path(path)) is Video
