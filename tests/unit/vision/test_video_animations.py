"""Animated GIF, WebP and PNG are videos; those of one picture are pictures."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ming_core.errors import BadMedia
from ming_core.media import Image as Picture
from ming_core.media import Video, media_from_path
from ming_core.notes import collected_notes
from ming_vision import VideoSampling, video_decoding, video_packets
from ming_vision.sampling import FLASH, LITE
from ming_vision.video import open_stream, read_video


@pytest.fixture
def animated(clips: Any, tmp_path: Path) -> Any:
    def write(name: str, frames: int = 8, **options: Any) -> Path:
        pictures = [Image.fromarray(clips.picture(i)) for i in range(frames)]
        options = {"duration": 250, **options}
        if name.endswith("webp"):
            options["lossless"] = True
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], **options)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif"])
def test_animations_are_videos(clips: Any, animated: Any, name: str) -> None:
    path = animated(name)
    assert isinstance(media_from_path(path), Video)
    frames = read_video(path, LITE, VideoSampling(frames=4))
    assert [clips.number(picture) for picture in frames.pictures] == [0, 2, 4, 6]
    assert frames.seconds == pytest.approx((0, 0.5, 1, 1.5))
    stream = [(seconds, clips.number(picture)) for seconds, picture in open_stream(path)]
    assert stream == [(i / 4, i) for i in range(8)]


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_frames_that_stand_for_long(clips: Any, animated: Any, name: str) -> None:
    path = animated(name, 4, duration=[100, 100, 2800, 500])
    frames = read_video(path, FLASH, VideoSampling(frames=4))
    assert [clips.number(picture) for picture in frames.pictures] == [0, 2, 2, 3]
    assert frames.seconds == pytest.approx((0, 0.2, 2, 3))


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif"])
def test_one_picture_is_a_picture(clips: Any, animated: Any, name: str) -> None:
    path = animated(name, 1)
    assert isinstance(media_from_path(path), Picture)
    assert [clips.number(picture) for picture in read_video(path, LITE).pictures] == [0]


def test_a_gif_with_a_large_first_picture_is_a_video(tmp_path: Path) -> None:
    noise = [Image.effect_noise((700, 700), 90 + i) for i in range(2)]
    path = tmp_path / "large.gif"
    noise[0].save(path, save_all=True, append_images=noise[1:])
    assert path.stat().st_size > 600_000
    assert isinstance(media_from_path(path), Video)
    noise[0].save(path)
    assert isinstance(media_from_path(path), Picture)


def with_a_note_that_swells(png: bytes) -> bytes:
    """With a comment that Pillow refuses to unpack, and the picture with it."""
    chunk = b"zTXtComment\0\0" + zlib.compress(bytes(1 << 22))
    length, end = (len(chunk) - 4).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    return png[:33] + length + chunk + end + png[33:]


@pytest.mark.parametrize("frames", [1, 8])
def test_metadata_decide_nothing(clips: Any, animated: Any, frames: int) -> None:
    data = with_a_note_that_swells(animated("a.png", frames).read_bytes())
    with pytest.raises(ValueError, match="too large"):
        Image.open(BytesIO(data))
    stream = [clips.number(picture) for _, picture in open_stream(data)]
    assert stream == list(range(frames))
    seen = read_video(data, LITE, VideoSampling(frames=frames)).pictures
    assert [clips.number(picture) for picture in seen] == stream


def test_a_webp_with_a_large_first_picture_is_a_video(tmp_path: Path) -> None:
    noise = [Image.effect_noise((700, 700), 90 + i) for i in range(2)]
    path = tmp_path / "large.webp"
    noise[0].save(path, save_all=True, append_images=noise[1:], lossless=True)
    assert path.stat().st_size > 600_000
    assert isinstance(media_from_path(path), Video)
    assert len(list(open_stream(path))) == 2
    noise[0].save(path, lossless=True)
    assert isinstance(media_from_path(path), Picture)


def test_an_animation_that_breaks_off(clips: Any, animated: Any) -> None:
    data = animated("a.png").read_bytes()
    with collected_notes() as notes:
        stream = [clips.number(picture) for _, picture in open_stream(data[: len(data) * 3 // 4])]
    assert stream == list(range(len(stream)))
    assert 2 < len(stream) < 8
    assert "breaks off at" in notes[0]


def test_limits_of_animations(animated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = animated("a.png")
    monkeypatch.setattr(video_decoding, "MAX_DECODED", 64 * 48 * 7)
    with pytest.raises(BadMedia, match="takes too long"):
        read_video(path, LITE)
    monkeypatch.setattr(video_packets, "MAX_PIXELS", 64 * 47)
    with pytest.raises(BadMedia, match="frames of 64 x 48 pixels"):
        next(open_stream(path))
