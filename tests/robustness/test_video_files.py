"""Broken, hostile and mistaken videos: one clear sentence each, and nothing hangs."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ming_core.errors import BadMedia
from ming_core.media import Frames
from ming_core.notes import collected_notes
from ming_vision import VideoSampling, video_decoding, video_packets
from ming_vision.image import MAX_PIXELS
from ming_vision.sampling import FLASH, LITE
from ming_vision.video import open_stream, read_video


def refusal(source: Any) -> str:
    """The message with which a video is refused."""
    with pytest.raises(BadMedia) as caught:
        list(read_video(source, FLASH, VideoSampling(frames=8)).pictures)
    message = str(caught.value)
    assert "\n" not in message
    return message


def sound(path: Path, cover: bool = False) -> Path:
    """A sound file, with a picture of the record if asked."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("flac" if path.suffix == ".flac" else "aac", rate=16000)
        stream.layout = "mono"  # pyright: ignore[reportAttributeAccessIssue]
        wave = np.zeros((1, 16000), dtype=np.int16)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    return path


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("this is no video\n" * 100)
    assert refusal(empty) == f"{empty} is empty; expected mp4, mkv, webm, mov, avi or gif"
    assert "text.mp4 is no video in a known format, or it is damaged" in refusal(text)
    assert "the video data is empty" in refusal(b"")
    assert "the video data is no video in a known format" in refusal(bytes(5000))


def test_a_size_that_leads_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    box = (1).to_bytes(4, "big") + b"mdat" + (2**64 - 1).to_bytes(8, "big") + bytes(100)
    path.write_bytes(b"\0\0\0\x10ftypisom" + bytes(4) + box)
    assert "a.mp4 is no video in a known format, or it is damaged" in refusal(path)
    assert "the video data is no video in a known format" in refusal(path.read_bytes())


def test_paths_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ming_core.media.files.MOST_PIPED", 1 << 22)
    assert "there is no video file" in refusal(tmp_path / "missing.mp4")
    assert "/dev/zero has more than 4 MB" in refusal("/dev/zero")
    assert "is a web address, which is not fetched" in refusal("https://example.com/a.mp4")
    assert "holds no pictures (.png, .jpg, .webp, ...)" in refusal(tmp_path)
    assert "cannot read a video from int" in refusal(5)
    assert "cannot read the video file" in refusal("a" * 5000)


def test_sound_without_a_picture(tmp_path: Path) -> None:
    for name in ("sound.mp4", "sound.flac"):
        path = sound(tmp_path / name)
        assert refusal(path).startswith(f"{path} holds only sound; give a file with a video stream")


def test_no_frames() -> None:
    assert "the video has no frames; give at least one" in refusal([])
    assert "the video has no frames" in refusal(np.zeros((0, 8, 8, 3), dtype=np.uint8))
    assert "the video has no frames" in refusal(Frames([], []))


def test_wrong_pictures_of_a_list() -> None:
    assert "cannot read an image from int" in refusal([1, 2, 3])
    assert "must be uint8 [height, width, 3], not float64" in refusal(np.zeros((2, 8, 8, 3)))
    many = Frames([np.zeros((8, 8, 3), dtype=np.uint8)] * 3000, range(3000))
    assert "3000 frames of one video are more than the 2048 allowed" in refusal(many)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_mp4_cut_short(clips: Any, share: float) -> None:
    data = clips.write("a.mp4").read_bytes()
    message = refusal(data[: int(len(data) * share)])
    assert "no video that can be found" in message or "cut short" in message


def shown(clips: Any, source: Any, frames: int = 1000) -> tuple[list[int], list[str]]:
    """Numbers of the frames that are read, and the notes about them."""
    with collected_notes() as notes:
        pictures = list(read_video(source, LITE, VideoSampling(frames=frames)).pictures)
    return [clips.number(picture) for picture in pictures], notes


@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [
        ("a.mp4", "libx264", 0.9),
        ("a.mov", "mpeg4", 0.6),
        ("a.mkv", "mpeg4", 0.6),
        ("a.avi", "mpeg4", 0.7),
    ],
)
def test_a_file_that_breaks_off_gives_what_it_holds(
    clips: Any, name: str, codec: str, share: float
) -> None:
    path = clips.write(name, codec, frames=100, header_first=name[2:] in ("mp4", "mov"))
    data = path.read_bytes()
    numbers, notes = shown(clips, data[: int(share * len(data))])
    assert 20 < len(numbers) < 100
    whole = len(numbers) - 4  # the last one is torn, and others may be made from it
    assert numbers[:whole] == list(range(whole))
    assert len(notes) == 1
    assert re.fullmatch(
        r"the video data breaks off: it holds \d\.\d s of the \d+\.0 s that its header promises",
        notes[0],
    )
    assert shown(clips, data) == (list(range(100)), [])


def test_webm_cut_short_gives_what_is_there(clips: Any) -> None:
    path = clips.write("a.webm", "libvpx-vp9", frames=60)
    data = path.read_bytes()
    frames = read_video(data[: len(data) // 2], FLASH, VideoSampling(frames=60))
    shown = [clips.number(picture) for picture in frames.pictures]
    assert 5 < len(shown) < 60
    assert shown[:5] == [0, 1, 2, 3, 4]


def test_frames_that_are_too_large_are_refused_before_they_are_decoded(
    clips: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Image.new("RGB", (10000, 10000)) as bomb:
        bomb.save(tmp_path / "bomb.mp4", "PNG")
    assert "more than the 89,478,485 pixels allowed" in refusal(tmp_path / "bomb.mp4")
    gif = bytearray(clips.write("a.gif", "gif", pixels="gray").read_bytes())
    gif[6:10] = (30000).to_bytes(2, "little") * 2
    assert "at most 35,389,440 pixels are allowed" in refusal(bytes(gif))
    path = clips.write("a.mp4")
    monkeypatch.setattr(video_packets, "MAX_PIXELS", 64 * 48 - 1)
    assert "frames of 64 x 48 pixels; at most 3,071 pixels are allowed" in refusal(path)


def test_reading_stops_at_the_limit_of_frames(clips: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_packets, "MAX_PACKETS", 20)
    path = clips.write("a.mp4", frames=21)
    assert "has more than the 20 frames allowed; cut it first" in refusal(path)
    with pytest.raises(BadMedia, match="more than the 20 frames"):
        next(open_stream(path))


@pytest.mark.parametrize("claimed", [0, 1, 29, 31, 45, 10**9, 2**32 - 1])
def test_a_header_that_counts_wrong(clips: Any, claimed: int) -> None:
    data = bytearray(clips.write("a.avi", "mpeg4").read_bytes())
    header = data.index(b"strh") + 8
    data[header + 32 : header + 36] = claimed.to_bytes(4, "little")
    numbers, notes = shown(clips, bytes(data))
    assert numbers == list(range(30))
    assert len(notes) == (claimed > 40)


def test_playlists_are_not_followed(clips: Any, tmp_path: Path) -> None:
    path = clips.write("a.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{path}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {path.name}\n")
    assert "is no video in a known format" in refusal(tmp_path / "list.m3u8")
    assert "is no video in a known format" in refusal(tmp_path / "list.txt")


def test_damaged_frames_are_left_out(clips: Any) -> None:
    path = clips.write("a.mkv", frames=60, key_every=5)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    numbers, _ = shown(clips, bytes(data))
    assert 20 < len(numbers) < 60
    assert (numbers[0], numbers[-1]) == (0, 59)


def test_a_file_of_which_nothing_can_be_decoded(clips: Any) -> None:
    data = bytearray(clips.write("a.mp4", frames=1).read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    sentence = "no frame of the video data can be decoded; convert it to mp4 first"
    assert refusal(bytes(data)) == sentence
    with pytest.raises(BadMedia, match=sentence):
        next(open_stream(bytes(data)))


def test_a_broken_place_does_not_stop_a_stream(clips: Any) -> None:
    data = bytearray(clips.write("a.ts", frames=90, key_every=10).read_bytes())
    third = len(data) // 3
    data[third : third + 3000] = bytes(range(250)) * 12
    numbers = [clips.number(picture) for _, picture in open_stream(bytes(data))]
    assert numbers[:10] == list(range(10))
    assert numbers[-20:] == list(range(70, 90))


def test_a_size_that_is_too_large_from_the_middle_on(
    clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = clips.write("a.h264", frames=6).read_bytes()
    large = clips.write("b.h264", frames=6, size=(320, 240)).read_bytes()
    monkeypatch.setattr(video_packets, "MAX_PIXELS", 64 * 48)
    numbers, notes = shown(clips, small + large)
    assert {0, 1, 2} <= set(numbers) <= set(range(6))
    assert "is damaged" in notes[0]  # the decoder refuses them


def test_frames_that_are_far_longer_than_wide(clips: Any) -> None:
    path = clips.write("a.mkv", "ffv1", frames=2, size=(4096, 16), pixels="gray")
    assert "has frames of 4096 x 16 pixels; one side may be at most 200 times" in refusal(path)


def test_time_is_bounded(clips: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write("a.mp4", frames=90, key_every=90)
    monkeypatch.setattr(video_decoding, "MAX_DECODED", 64 * 48 * 50)
    assert "a.mp4 takes too long: to look at it, more than 153,600 pixels" in refusal(path)


def test_one_of_several_videos_is_read_with_a_note(clips: Any, tmp_path: Path) -> None:
    """The one that is marked as default, else the first; never the cover of a song."""
    import av
    from av.stream import Disposition

    first, second = clips.write("a.mkv", frames=5), clips.write("b.mkv", frames=9, size=(32, 32))

    def both(default: int) -> Path:
        path = tmp_path / f"both{default}.mkv"
        with av.open(first) as one, av.open(second) as two, av.open(path, "w") as new:
            sources = [old.streams.video[0] for old in (one, two)]
            targets = [new.add_stream_from_template(source) for source in sources]
            targets[default].disposition = Disposition.default  # pyright: ignore
            targets[1 - default].disposition = Disposition(0)  # pyright: ignore
            for old, target in zip((one, two), targets, strict=True):
                for packet in old.demux(video=0):  # pyright: ignore[reportAttributeAccessIssue]
                    if packet.size:
                        packet.stream = target
                        new.mux(packet)
        return path

    for default, count in ((0, 5), (1, 9)):
        numbers, notes = shown(clips, both(default))
        assert numbers == list(range(count))
        assert notes == [f"{tmp_path}/both{default}.mkv has 2 videos; only the main one is read"]


SMALL: dict[str, bytes] = {}


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.gif", "gif")]
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    end=st.floats(0.3, 1),
)
def test_damage_anywhere_ends_in_frames_or_in_a_sentence(
    clips: Any, name: str, codec: str, changes: list[tuple[float, int]], end: float
) -> None:
    if name not in SMALL:
        pixels = "gray" if codec == "gif" else "yuv420p"
        SMALL[name] = clips.write(name, codec, frames=12, pixels=pixels).read_bytes()
    data = bytearray(SMALL[name])
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: int(end * len(data))]
    with suppress(BadMedia):
        frames = read_video(bytes(data), FLASH, VideoSampling(frames=6))
        sizes = [(picture.mode, picture.size) for picture in frames.pictures]
        assert len(sizes) == len(frames.seconds)
        assert all(mode == "RGB" and w * h <= MAX_PIXELS for mode, (w, h) in sizes)
