from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image as pil

import ming_core
from ming_core.errors import BadMedia
from ming_core.media import (
    Audio,
    Frames,
    Image,
    Message,
    Text,
    Video,
    as_medium,
    as_part,
    assistant,
    media_from_path,
    names_medium,
    system,
    user,
)


def test_strings_become_text_and_order_is_kept() -> None:
    picture = Image("a.png")
    message = user("what is ", picture, "this?")
    assert message.role == "user"
    assert message.parts == (Text("what is "), picture, Text("this?"))
    assert message.text == str(message) == "what is this?"
    assert assistant("a star") == Message("assistant", (Text("a star"),))
    assert system("be brief").role == "system"
    assert Message("user", "hello").parts == (Text("hello"),)  # type: ignore[arg-type]


def test_wrong_roles_and_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="role must be one of system, user, assistant, not 'bot'"):
        Message("bot", ())  # type: ignore[arg-type]
    for nothing, name in (
        (object(), "object"),
        (np.zeros((3, 4)), r"ndarray\[3, 4\]"),
        ([], "list"),
    ):
        with pytest.raises(TypeError, match=f"not {name}"):
            as_part(nothing)


def test_media_name_themselves() -> None:
    assert str(Image(Path("a") / "b.png")) == "a/b.png"
    assert Image("b.png").path == Path("b.png")
    frame = Image(np.zeros((2, 2, 3), np.uint8))
    assert frame.path is None
    assert str(frame) == "image in memory (ndarray)"
    assert user(frame) == user(frame)  # equality never asks an array for its truth value
    assert user(frame) != user(Image(frame.source))


def test_media_come_in_any_shape(tmp_path: Path) -> None:
    data = Path("docs/images/scene.png").read_bytes()
    pixels = np.zeros((4, 5, 3), np.uint8)
    given: list[tuple[object, type]] = [
        ("docs/sounds/ring.flac", Audio),
        (Path("docs/images/clip.mp4"), Video),
        (Path("docs/images/scene.png").absolute().as_uri(), Image),
        ("data:image/png;base64," + base64.b64encode(data).decode(), Image),
        (data, Image),
        (bytearray(data), Image),
        (io.BytesIO(data), Image),
        (pil.fromarray(pixels), Image),
        (pixels, Image),
        (pixels[..., 0], Image),
        (torch.from_numpy(pixels), Image),
        (np.stack([pixels] * 2), Video),
        ([pixels, pil.fromarray(pixels)], Video),
        (Frames([pixels], [0.0]), Video),
        (np.zeros(100, np.float32), Audio),
        ((np.zeros((2, 100), np.int16), 8000), Audio),
    ]
    for value, kind in given:
        assert type(as_medium(value)) is kind, value
        if not isinstance(value, str):  # strings are texts in a message
            assert type(user("what is this?", value).parts[1]) is kind
    with (tmp_path / "a").open("w+b") as handle:
        handle.write(data)
        handle.seek(0)
        assert as_medium(handle).source == data
    with pytest.raises(BadMedia, match="is a web address, which is not fetched"):
        as_medium("https://example.com/a.png")
    with pytest.raises(BadMedia, match="no valid base64"):
        as_medium("data:image/png;base64,*")


def test_a_string_is_a_path_only_where_it_names_something(tmp_path: Path) -> None:
    there = tmp_path / "two words"
    there.touch()
    names = [str(there), "missing.png", "docs/a.WAV", "file:///a.b", "https://a/b", "data:,"]
    texts = ["", "what is a.png?", "two\nlines.png", "yes", "3.5", "a\0b.png c", "x" * 9000]
    assert [names_medium(name) for name in names] == [True] * len(names)
    assert [names_medium(text) for text in texts] == [False] * len(texts)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("a.WAV", Audio), ("b.mp4", Video), (Path("c.jpeg"), Image), ("noextension", Image)],
)
def test_the_suffix_decides_where_there_is_nothing_to_read(path: str | Path, kind: type) -> None:
    part = media_from_path(path)
    assert type(part) is kind
    assert part.source == path


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    sound = Path("docs/sounds/ring.flac").read_bytes()
    clip = Path("docs/images/clip.mp4").read_bytes()
    picture = Path("docs/images/scene.png").read_bytes()
    moov = clip.index(b"moov") - 4
    shown = b"\x21\xf9\x04" + bytes(5) + b"," + bytes(9) + b"\x02\x01\0\0"  # a picture of a GIF
    starts: list[tuple[bytes, type]] = [
        (sound, Audio),
        (clip, Video),
        (picture, Image),
        (clip[:moov] + clip[moov:].replace(b"vide", b"soun"), Audio),  # an mp4 without pictures
        (b"\0\0\0\x18ftypheic" + bytes(40), Image),
        (b"GIF89a" + bytes(7) + shown + b";", Image),
        (b"GIF89a" + bytes(7) + shown + shown + b";", Video),
        (b"\x1aE\xdf\xa3" + bytes(30) + b"\x83\x81\x01", Video),
        (b"\x1aE\xdf\xa3" + bytes(30) + b"\x83\x81\x02", Audio),
        (b"OggS" + bytes(24) + b"\x01vorbis", Audio),
        (b"OggS" + bytes(24) + b"\x80theora", Video),
        ((b"G" + bytes(187)) * 3, Video),
        ((bytes(4) + b"G" + bytes(187)) * 3, Video),
        (b"\xff\xfb\x90\x00" + bytes(100), Audio),
        (b"\xff\xf1\x50\x80" + bytes(100), Audio),
        (b"FORM\0\0\0\0AIFF", Audio),
        (b"RIFF\0\0\0\0WEBP", Image),
        (b"RIFF\0\0\0\0AVI ", Video),
        (b"RIFF\xff\xff\xff\xffWAVE", Audio),
        (b"P6 2 2 255\n" + bytes(12), Image),
    ]
    for number, (data, kind) in enumerate(starts):
        for suffix in ("", ".png", ".mp4", ".wav"):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(data)
            assert type(media_from_path(path)) is kind, (data[:12], suffix)
        assert type(media_from_path(data)) is kind
    for name, kind in (("told.opus", Audio), ("by.mts", Video), ("its.suffix", Image)):
        (tmp_path / name).write_bytes(b"what nobody knows")
        assert type(media_from_path(tmp_path / name)) is kind


def test_a_moov_at_the_end_of_a_large_file_is_found(tmp_path: Path) -> None:
    handler = b"hdlr" + bytes(8) + b"soun" + bytes(12)
    moov = (len(handler) + 12).to_bytes(4, "big") + b"moov" + b"\0\0\0\0" + handler
    path = tmp_path / "a.mp4"
    with path.open("wb") as handle:
        handle.write(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01mdat")
        handle.write((5 << 30).to_bytes(8, "big"))
        handle.seek(16 + (5 << 30))
        handle.write(moov)
    assert type(media_from_path(path)) is Audio
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\0mdat" + bytes(99))
    assert type(media_from_path(path)) is Video  # to the end of the file: the suffix tells


def test_a_folder_is_a_video_and_a_pipe_is_read_once(tmp_path: Path) -> None:
    assert type(media_from_path(tmp_path)) is Video
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    data = Path("docs/sounds/ring.flac").read_bytes()
    writer = Thread(target=pipe.write_bytes, args=(data,), daemon=True)
    writer.start()
    part = media_from_path(pipe)
    writer.join()
    assert type(part) is Audio
    assert str(part) == str(pipe)
    assert part.source.read() == data


def test_public_names_are_the_modules_own() -> None:
    assert ming_core.Image is Image
    assert set(ming_core.__all__) <= set(dir(ming_core))
    with pytest.raises(AttributeError, match="has no attribute 'Picture'"):
        _ = ming_core.Picture
