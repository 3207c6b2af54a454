"""Mirrored and turned recordings come out as players show them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ming_vision.sampling import FLASH
from ming_vision.video import open_stream, read_video

SIDE = 48
COLOURS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}

ONE = 1 << 16
# What the two axes of the picture are taken to, and the corners of RG/BW as they are seen.
MATRICES = {
    "as it is": ((1, 0, 0, 1), "RGBW"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "upside down": ((1, 0, 0, -1), "BWRG"),
    "half turn": ((-1, 0, 0, -1), "WBGR"),
    "quarter turn to the right": ((0, 1, -1, 0), "BRWG"),
    "quarter turn to the left": ((0, -1, 1, 0), "GWRB"),
    "along the diagonal": ((0, 1, 1, 0), "RBGW"),
    "along the other diagonal": ((0, -1, -1, 0), "WGBR"),
}


def corners(picture: Image.Image) -> str:
    """Names of the colours top left, top right, bottom left and bottom right."""
    w, h = picture.size
    places = [
        (w // 4, h // 4),
        (3 * w // 4, h // 4),
        (w // 4, 3 * h // 4),
        (3 * w // 4, 3 * h // 4),
    ]
    seen = [np.array(picture.getpixel(place)) for place in places]
    return "".join(min(COLOURS, key=lambda c: abs(np.array(COLOURS[c]) - s).sum()) for s in seen)


@pytest.fixture
def recording(clips: Any, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An mp4 of 64 x 48 pixels whose quarters are red, green, blue and white."""
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    for name, (y, x) in zip("RGBW", [(0, 0), (0, 32), (24, 0), (24, 32)], strict=True):
        picture[y : y + 24, x : x + 32] = COLOURS[name]
    monkeypatch.setattr(clips, "picture", lambda *_: picture)
    return clips.write("quarters.mp4", frames=3).read_bytes()


def with_matrix(recording: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """The recording with another matrix in the header of its track."""
    data = bytearray(recording)
    at = data.index(b"tkhd") + 44
    assert struct.unpack_from(">9i", data, at) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return bytes(data)


@pytest.mark.parametrize("name", MATRICES)
def test_all_eight_ways(recording: bytes, name: str) -> None:
    signs, seen = MATRICES[name]
    source = with_matrix(recording, *(ONE * sign for sign in signs))
    first = next(read_video(source, FLASH).pictures)
    assert first.size == ((64, 48) if signs[0] else (48, 64))
    assert corners(first) == seen
    assert corners(next(open_stream(source))[1]) == seen


def test_enlarged_ones_are_turned_too(recording: bytes) -> None:
    first = next(read_video(with_matrix(recording, 0, 2 * ONE, -3 * ONE, 0), FLASH).pictures)
    assert corners(first) == "BRWG"


@pytest.mark.parametrize(
    "matrix", [(46341, 46341, -46341, 46341), (64540, 11380, -11380, 64540), (0, 0, 0, 0)]
)
def test_other_angles_are_left_alone(recording: bytes, matrix: tuple[int, ...]) -> None:
    assert corners(next(read_video(with_matrix(recording, *matrix), FLASH).pictures)) == "RGBW"
