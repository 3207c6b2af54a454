"""Frames and times of videos of every kind: which pictures come out is read off their stripes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.media import Frames
from ming_core.notes import collected_notes
from ming_vision import VideoSampling, video_decoding, video_packets, video_parts
from ming_vision.sampling import FLASH, LITE
from ming_vision.video import open_stream, read_video

ALL = VideoSampling(frames=1000)


class Clips(Protocol):
    def picture(self, number: int, width: int = 64, height: int = 48) -> np.ndarray: ...
    def number(self, picture: Image.Image) -> int: ...
    def write(self, name: str, codec: str = ..., **options: Any) -> Path: ...


def numbers(clips: Clips, source: Any, sampling: VideoSampling | None = None) -> list[int]:
    return [clips.number(picture) for picture in read_video(source, FLASH, sampling).pictures]


KINDS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("b.mp4", "mpeg4", "yuv420p"),
    ("a.mkv", "libx264", "yuv420p"),
    ("a.webm", "libvpx-vp9", "yuv420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.ts", "libx264", "yuv420p"),
    ("a.mov", "libx264", "yuv420p"),
    ("a.gif", "gif", "gray"),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), KINDS, ids=[kind[0] for kind in KINDS])
def test_kinds_of_files(clips: Clips, name: str, codec: str, pixels: str) -> None:
    path = clips.write(name, codec, pixels=pixels)
    assert numbers(clips, path, ALL) == list(range(30))
    assert numbers(clips, str(path), VideoSampling(frames=4)) == [0, 9, 19, 29]
    frames = read_video(path, LITE, VideoSampling(frames=3))
    assert [clips.number(picture) for picture in frames.pictures] == [4, 14, 24]
    assert frames.seconds == pytest.approx((0.4, 1.4, 2.4), abs=0.011)


def test_released_times_of_a_file(clips: Clips) -> None:
    path = clips.write("a.mp4", frames=60, fps=30)  # 2 s: 4 frames, 2 per second
    frames = read_video(path, FLASH)
    assert frames.seconds == (0.0, 0.5, 1.0, 1.5)
    assert [clips.number(picture) for picture in frames.pictures] == [0, 19, 39, 59]


def test_a_stream_without_times_counts_its_frames(clips: Clips) -> None:
    path = clips.write("a.h264")
    frames = read_video(path, LITE, VideoSampling(frames=3))
    assert [clips.number(picture) for picture in frames.pictures] == [4, 14, 24]
    assert frames.seconds == pytest.approx((4 / 25, 14 / 25, 24 / 25))  # 25 is what H.264 assumes


def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times of all frames that are decoded from now on."""
    times: list[int] = []
    original = video_decoding._decoded

    def counting(*arguments: Any) -> Any:
        for time, frame in original(*arguments):
            times.append(time)
            yield time, frame

    monkeypatch.setattr(video_decoding, "_decoded", counting)
    return times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_what_lies_between_is_not_decoded(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = clips.write(name, frames=250, key_every=10)
    decoded = decoded_frames(monkeypatch)
    assert numbers(clips, path, VideoSampling(frames=4)) == [0, 83, 166, 249]
    assert len(decoded) <= 60


def test_a_file_that_cannot_be_sought_is_played_once(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.write("a.mp4", frames=100, key_every=10)
    scan = video_packets.scan

    def wrong_places(file: Any) -> Any:
        index = scan(file)
        far = index.keys[-1][1]
        return replace(index, keys=[index.keys[0], *((time, far) for time, _ in index.keys[1:])])

    monkeypatch.setattr(video_parts, "scan", wrong_places)
    decoded = decoded_frames(monkeypatch)
    assert numbers(clips, path, VideoSampling(frames=5)) == [0, 24, 49, 74, 99]
    assert len(decoded) <= 120


def test_variable_frame_rate_goes_by_time(clips: Clips) -> None:
    # Ten frames within the first second, then one each second until 10 s.
    times = [*range(0, 1000, 100), *range(1000, 11000, 1000)]
    for name in ("v.mkv", "v.mp4"):
        path = clips.write(name, milliseconds=times)
        frames = read_video(path, FLASH, VideoSampling(frames=5))
        shown = [clips.number(picture) for picture in frames.pictures]
        assert shown == [0, 11, 13, 16, 19]  # on screen at 0, 2.1, 4.7, 7.4 and 10 s
        assert frames.seconds == pytest.approx([times[i] / 1000 for i in shown], abs=0.002)


def test_a_frame_that_stands_still_is_named_with_each_moment(clips: Clips) -> None:
    path = clips.write("slides.mkv", milliseconds=[0, 100, 200, 300, 9000])
    frames = read_video(path, FLASH, ALL)
    assert [clips.number(picture) for picture in frames.pictures] == [0, 3, 3, 3, 4]
    assert frames.seconds == pytest.approx((0, 0.3, 4.5, 6.75, 9), abs=0.002)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated_recordings_are_put_upright(clips: Clips, angle: int) -> None:
    path = clips.write("r.mp4", rotation=angle, frames=5)
    pictures = list(read_video(path, FLASH, ALL).pictures)
    assert pictures[0].size == ((64, 48) if angle == 180 else (48, 64))
    back = {
        90: Image.Transpose.ROTATE_270,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_90,
    }
    assert [clips.number(picture.transpose(back[angle])) for picture in pictures] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("o.webm", "libvpx-vp9", "yuv420p"), ("o.mp4", "libx264", "yuv444p")],
)
def test_odd_sizes(clips: Clips, name: str, codec: str, pixels: str) -> None:
    path = clips.write(name, codec, size=(83, 37), pixels=pixels, frames=6)
    frames = read_video(path, FLASH, ALL)
    pictures = list(frames.pictures)
    assert {picture.size for picture in pictures} == {(83, 37)}
    assert [clips.number(picture) for picture in pictures] == [0, 1, 2, 3, 4, 5]


def test_transparent_gif_lies_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 16, 32))
    clear.save(
        tmp_path / "clear.gif",
        save_all=True,
        append_images=[clear.rotate(90)],
        duration=500,
        disposal=2,
    )
    first, second = read_video(tmp_path / "clear.gif", FLASH, ALL).pictures
    assert first.getpixel((4, 16)) == (0, 0, 255)
    assert first.getpixel((28, 16)) == (255, 255, 255)
    assert second.getpixel((16, 4)) == (255, 255, 255)
    assert second.getpixel((16, 28)) == (0, 0, 255)


def test_a_folder_is_sorted_by_name_and_number(clips: Clips, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(12):
        suffix = "png" if i % 2 else "ppm"  # all kinds of pictures that are read
        Image.fromarray(clips.picture(i)).save(folder / f"frame{i}.{suffix}")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    frames = read_video(folder, FLASH)
    assert [clips.number(picture) for picture in frames.pictures] == list(range(12))
    assert frames.seconds == tuple(i / 2 for i in range(12))


def test_sequences_arrays_and_tensors(clips: Clips, tmp_path: Path) -> None:
    arrays = [clips.picture(i) for i in range(8)]
    Image.fromarray(arrays[0]).save(tmp_path / "0.png")
    mixed = [tmp_path / "0.png", Image.fromarray(arrays[1]), *arrays[2:]]
    for source in (mixed, np.stack(arrays), torch.from_numpy(np.stack(arrays))):
        assert numbers(clips, source) == list(range(8))
        assert numbers(clips, source, VideoSampling(frames=2)) == [0, 7]


def test_chosen_frames_are_all_taken_with_their_times(clips: Clips) -> None:
    chosen = Frames([clips.picture(i) for i in (3, 1, 200)], [0.5, 4, 60])
    frames = read_video(chosen, FLASH, VideoSampling(frames=1))
    assert [clips.number(picture) for picture in frames.pictures] == [3, 1, 200]
    assert frames.seconds == (0.5, 4.0, 60.0)


def test_pictures_are_opened_one_by_one(clips: Clips) -> None:
    opened: list[int] = []

    class Pictures(Sequence):
        def __len__(self) -> int:
            return 300

        def __getitem__(self, i: Any) -> np.ndarray:
            opened.append(i)
            return clips.picture(i % 256)

    frames = read_video(Pictures(), FLASH, VideoSampling(frames=4))
    assert opened == []
    next(frames.pictures)
    assert opened == [0]
    assert len(list(frames.pictures)) == 3
    assert opened == [0, 99, 199, 299]


def test_other_ways_to_name_a_file(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write("a b.mp4", frames=3)
    assert numbers(clips, path.read_bytes(), ALL) == [0, 1, 2]
    assert numbers(clips, path.as_uri(), ALL) == [0, 1, 2]
    path.rename(path.with_name("concat:a|b.mp4"))
    monkeypatch.chdir(path.parent)
    assert numbers(clips, "concat:a|b.mp4", ALL) == [0, 1, 2]


def test_the_suffix_does_not_matter(clips: Clips, tmp_path: Path) -> None:
    clips.write("a.webm", "libvpx-vp9", frames=3).rename(tmp_path / "webm.mp4")
    assert numbers(clips, tmp_path / "webm.mp4", ALL) == [0, 1, 2]
    Image.fromarray(clips.picture(77)).save(tmp_path / "picture.mp4", "PNG")
    assert numbers(clips, tmp_path / "picture.mp4") == [77]


@pytest.mark.parametrize("header_first", [False, True])
def test_joined_mp4s_are_read_one_behind_the_other(
    clips: Clips, tmp_path: Path, header_first: bool
) -> None:
    parts = [clips.write(f"{n}.mp4", frames=n, fps=4, header_first=header_first) for n in (3, 5)]
    path = tmp_path / "a,b:c.mp4"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = [*range(3), *range(5)]
    for source in (path, path.read_bytes()):
        with collected_notes() as notes:
            frames = read_video(source, FLASH, ALL)
            assert list(map(clips.number, frames.pictures)) == expected
        assert notes == []
        assert frames.seconds == pytest.approx([n / 4 for n in range(8)])
    assert [(t, clips.number(p)) for t, p in open_stream(path)] == [
        (pytest.approx(n / 4), number) for n, number in enumerate(expected)
    ]
    some = read_video(path, FLASH, VideoSampling(frames=4))
    assert list(map(clips.number, some.pictures)) == [expected[n] for n in (0, 2, 4, 7)]


def test_a_part_that_cannot_be_read_is_noted(clips: Clips) -> None:
    data = clips.write("a.mp4", frames=3).read_bytes()
    with collected_notes() as notes:
        assert numbers(clips, data + data[:40], ALL) == [0, 1, 2]
    assert notes == ["the video data has a part that cannot be decoded; the rest was used"]


def test_open_stream_yields_every_frame_in_turn(clips: Clips) -> None:
    stream = open_stream(clips.write("a.mp4", frames=7, fps=4))
    first = next(stream)
    assert first[0] == 0.0
    assert clips.number(first[1]) == 0
    rest = [(seconds, clips.number(picture)) for seconds, picture in stream]
    assert rest == [(i / 4, i) for i in range(1, 7)]
