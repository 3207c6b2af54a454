"""Times of videos whose clock is no simple one, and what edit lists and gaps do to frames."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ming_core.notes import collected_notes
from ming_vision import VideoSampling
from ming_vision.sampling import LITE
from ming_vision.video import open_stream, read_video


def played(clips: Any, source: Any) -> tuple[list[int], list[float]]:
    """Numbers and times of all frames in turn; `read_video` must agree with them, without a note.

    Whatever number of frames is sampled, each is the one on screen at the time said of it.
    """
    with collected_notes() as notes:
        stream = [(seconds, clips.number(picture)) for seconds, picture in open_stream(source)]
        for count in (5, 11, 17):
            frames = read_video(source, LITE, VideoSampling(frames=count))
            for seconds, picture in zip(frames.seconds, frames.pictures, strict=True):
                on_screen = [number for time, number in stream if time <= seconds + 0.01][-1]
                assert clips.number(picture) == on_screen, seconds
    assert notes == []
    return [number for _, number in stream], [seconds for seconds, _ in stream]


def remuxed(source: Path, target: Path, moved: Callable[[int], float], **options: Any) -> Path:
    """The same packets with other times; moved: seconds to add to those of packet `number`."""
    import av

    with av.open(source) as old, av.open(target, "w", **options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and packet.time_base and packet.pts is not None:
                offset = round(moved(number) / packet.time_base)
                packet.pts += offset
                packet.dts = None if packet.dts is None else packet.dts + offset
                packet.stream = stream
                new.mux(packet)
    return target


def tenths(count: int) -> list[float]:
    return pytest.approx([i / 10 for i in range(count)], abs=0.011)  # pyright: ignore


# Clocks


@pytest.mark.parametrize("jump", [36_000.0, 400.0, 95_000.0])
def test_a_clock_that_leaps_is_one_recording(clips: Any, tmp_path: Path, jump: float) -> None:
    """At a key frame; MPEG-TS says that its clock may do that."""
    path = clips.write("a.ts", frames=72)
    leaping = remuxed(path, tmp_path / "b.ts", lambda number: jump * (number >= 36))
    assert played(clips, leaping) == (list(range(72)), tenths(72))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_leap_between_key_frames(clips: Any, tmp_path: Path, codec: str) -> None:
    path = clips.write("a.ts", codec, frames=72)
    leaping = remuxed(path, tmp_path / "b.ts", lambda number: 36_000 * (number >= 41))
    assert played(clips, leaping) == (list(range(72)), tenths(72))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.ts", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.h264", "libx264"),
    ],
)
def test_a_clock_that_begins_anew(clips: Any, name: str, codec: str) -> None:
    fps = 25 if name in ("a.mpg", "a.h264") else 10
    data = clips.write(name, codec, frames=30, fps=fps).read_bytes()
    numbers, seconds = played(clips, data + data)
    assert numbers == [*range(30)] * 2
    assert seconds == pytest.approx([i / fps for i in range(60)], abs=0.011)


def test_a_clock_that_runs_over(clips: Any, tmp_path: Path) -> None:
    """The 33 bits of MPEG-TS end after 26.5 hours."""
    path = clips.write("a.ts", frames=40)
    over = remuxed(path, tmp_path / "b.ts", lambda _: 0, options={"output_ts_offset": "95440"})
    assert played(clips, over) == (list(range(40)), tenths(40))


@pytest.mark.parametrize(("name", "pause"), [("b.mkv", 20.0), ("b.ts", 20.0), ("b.mp4", 900.0)])
def test_a_pause_stays_a_pause(clips: Any, tmp_path: Path, name: str, pause: float) -> None:
    path = clips.write("a.ts" if name == "b.ts" else "a.mkv", "mpeg4", frames=36)
    paused = remuxed(path, tmp_path / name, lambda number: pause * (number >= 12))
    numbers, seconds = played(clips, paused)
    assert numbers == list(range(36))
    expected = [i / 10 + pause * (i >= 12) for i in range(36)]
    assert seconds == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_a_picture_that_begins_after_the_sound(clips: Any, tmp_path: Path, name: str) -> None:
    import av

    source = clips.write("a.mp4", frames=10)
    with av.open(source) as old, av.open(tmp_path / name, "w") as new:
        video = new.add_stream_from_template(old.streams.video[0])
        sound: Any = new.add_stream("aac", rate=16_000)
        sound.layout = "mono"
        for k in range(100):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 1024 * k, Fraction(1, 16_000)
            new.mux(sound.encode(frame))
        new.mux(sound.encode(None))
        for packet in old.demux(video=0):  # pyright: ignore[reportAttributeAccessIssue]
            if packet.size and packet.time_base and packet.pts is not None:
                packet.pts += round(3 / packet.time_base)
                packet.dts = (
                    None if packet.dts is None else packet.dts + round(3 / packet.time_base)
                )
                packet.stream = video
                new.mux(packet)
    numbers, seconds = played(clips, tmp_path / name)
    assert numbers == list(range(10))
    assert seconds == pytest.approx([3 + i / 10 for i in range(10)], abs=0.08)  # sound starts early


# Edit lists


def with_edits(data: bytes, *edits: tuple[float, float]) -> bytes:
    """An mp4 that shows only these parts: (from, seconds). Its header must be behind the frames."""
    at = data.index(b"elst") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    delay = struct.unpack_from(">i", data, at + 20)[0]  # what the frames of the encoder are late
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    entries = b"".join(
        struct.pack(">IiI", round(seconds * 1000), delay + round(start * scale), 1 << 16)
        for start, seconds in edits
    )
    box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    changed = bytearray(data[:at] + box + data[at + size :])
    for name in (b"moov", b"trak", b"edts"):  # around it
        place = changed.rindex(name, 0, at) - 4
        old = int.from_bytes(changed[place : place + 4], "big")
        changed[place : place + 4] = (old + len(box) - size).to_bytes(4, "big")
    return bytes(changed)


EDITS: dict[str, tuple[list[tuple[float, float]], list[int]]] = {
    "at the end": ([(0, 1.7)], [*range(17)]),
    "at the start": ([(1.2, 1.8)], [*range(12, 30)]),
    "at the start, within a group": ([(1.7, 1.3)], [*range(17, 30)]),
    "at both ends": ([(0.5, 1.0)], [*range(5, 15)]),
    "two parts": ([(0, 0.5), (2.4, 0.5)], [*range(5), *range(24, 29)]),
    "two parts within groups": ([(0.3, 0.5), (1.8, 0.9)], [*range(3, 8), *range(18, 27)]),
    "one part twice": ([(0, 0.5), (0, 0.5)], [*range(5)] * 2),
}


@pytest.mark.parametrize(
    ("codec", "name"),
    [("mpeg4", name) for name in EDITS]
    # Between parts FFmpeg is a frame off where frames are not decoded in their order.
    + [("libx264", name) for name in EDITS if name != "two parts within groups"],
)
def test_frames_behind_an_edit_list_are_not_shown(clips: Any, codec: str, name: str) -> None:
    edits, expected = EDITS[name]
    data = clips.write("a.mp4", codec).read_bytes()
    numbers, seconds = played(clips, with_edits(data, *edits))
    assert numbers == expected
    assert seconds == pytest.approx([i / 10 for i in range(len(expected))], abs=0.011)
