"""Colours of videos: the matrix and the range that a file names, and pixels of every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ming_vision import VideoSampling
from ming_vision.plugin import ming_doctor
from ming_vision.sampling import LITE
from ming_vision.video import open_stream, read_video

COLOURS = [(200, 80, 60), (60, 160, 90), (80, 90, 190), (230, 170, 120)]


def bands() -> np.ndarray:
    """[64, 64, 3] uint8: four bands of one colour each."""
    return np.repeat(np.array(COLOURS, dtype=np.uint8), 16, axis=0)[:, None].repeat(64, axis=1)


def seen(source: Any) -> np.ndarray:
    """The colours of the first frame, [4, 3]."""
    picture = next(read_video(source, LITE, VideoSampling(frames=2)).pictures)
    assert picture.tobytes() == next(open_stream(source))[1].tobytes()
    return np.asarray(picture)[8::16, 32].astype(int)


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
@pytest.mark.parametrize("full", [False, True])
def test_the_matrix_and_range_of_the_file_are_used(tmp_path: Path, matrix: str, full: bool) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    space = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601
    spread = ColorRange.JPEG if full else ColorRange.MPEG
    path = tmp_path / "colours.mp4"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=5, options={"qp": "4"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 1 if matrix == "bt709" else 6
        stream.codec_context.color_range = int(spread)
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(bands(), format="rgb24").reformat(
                format="yuv444p", dst_colorspace=space, dst_color_range=spread
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert abs(seen(path) - COLOURS).max() <= 4


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "off"),
    [
        ("a.mp4", "libx264", "yuv420p10le", 4),
        ("a.mp4", "libx264", "yuv444p", 4),
        ("a.mp4", "libx264", "yuv422p10le", 4),
        ("a.mkv", "libx265", "yuv420p12le", 6),
        ("a.mkv", "ffv1", "yuva420p", 4),
        ("a.mkv", "ffv1", "gbrp10le", 1),
        ("a.mkv", "ffv1", "gbrp16le", 1),
        ("a.mkv", "ffv1", "bgra", 1),
        ("a.mov", "prores_ks", "yuva444p10le", 8),
        ("a.mov", "qtrle", "argb", 1),
        ("a.avi", "mjpeg", "yuvj420p", 8),
        ("a.avi", "rawvideo", "bgr24", 1),
    ],
)
def test_pixels_of_every_layout(
    clips: Any, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, pixels: str, off: int
) -> None:
    monkeypatch.setattr(clips, "picture", lambda *_: bands())
    source = clips.write(name, codec, frames=3, size=(64, 64), pixels=pixels)
    assert abs(seen(source) - COLOURS).max() <= off


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "gray"), ("ffv1", "gray16le")])
def test_grey_ones(clips: Any, codec: str, pixels: str) -> None:
    source = clips.write("grey.mkv", codec, frames=6, pixels=pixels)
    pictures = [picture for _, picture in open_stream(source)]
    assert [clips.number(picture) for picture in pictures] == [0, 1, 2, 3, 4, 5]


def test_interlaced_ones(clips: Any, tmp_path: Path) -> None:
    import av

    path = tmp_path / "interlaced.ts"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(clips.picture(i), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert [clips.number(picture) for _, picture in open_stream(path)] == list(range(12))


@pytest.mark.parametrize("other", [(96, 48), (32, 32), (48, 64)])
def test_a_size_that_changes_in_the_middle(clips: Any, other: tuple[int, int]) -> None:
    first = clips.write("a.h264", frames=6).read_bytes()
    second = clips.write("b.h264", frames=6, size=other).read_bytes()
    pictures = [picture for _, picture in open_stream(first + second)]
    assert {picture.size for picture in pictures} == {(64, 48), other}
    assert [clips.number(picture) for picture in pictures] == [*range(6)] * 2
    frames = read_video(first + second, LITE, VideoSampling(frames=12))
    assert [clips.number(picture) for picture in frames.pictures] == [*range(6)] * 2


def test_pixels_that_change_in_the_middle(clips: Any) -> None:
    parts = [
        clips.write("a.h264", frames=6, pixels=pixels).read_bytes()
        for pixels in ("yuv420p", "yuv444p", "yuv420p10le")
    ]
    pictures = [picture for _, picture in open_stream(b"".join(parts))]
    assert [clips.number(picture) for picture in pictures] == [*range(6)] * 3


@pytest.mark.parametrize(("found", "fine"), [("18.1.0", True), ("17.0.0", True), ("16.0.1", False)])
def test_doctor_names_a_reader_with_wrong_colours(
    monkeypatch: pytest.MonkeyPatch, found: str, fine: bool
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: found)
    (finding,) = ming_doctor()
    assert finding.ok is fine
    assert f"PyAV {found}" in finding.detail
    assert fine or finding.detail.endswith("update it to 17 or later (av>=17)")
