"""The file behind a medium: found by path, URI or bytes, opened, and refused in one sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path
from threading import Thread

import pytest

from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile, MediaSource, shortened

DATA = b"not looked at"


def refusal(file: MediaFile) -> str:
    """The sentence with which a file is not opened."""
    with pytest.raises(BadMedia) as caught:
        file.open()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_of_source_leads_to_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a%20b ü.wav"
    path.write_bytes(DATA)
    upper = path.as_uri().replace("file://", "FILE://")
    in_memory = (DATA, bytearray(DATA), memoryview(DATA))
    for source in (path, str(path), path.as_uri(), upper, *in_memory):
        assert isinstance(source, MediaSource)
        file = MediaFile.find(source, "sound")
        assert file.read() == DATA, source
        with file.open() as handle:
            assert handle.read() == DATA
        assert not file.is_empty()
        assert file.folder is None
        assert file.name == ("the sound data" if source in in_memory else str(path))
    assert not isinstance([path], MediaSource)


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "rtsp"])
def test_web_addresses_are_not_fetched(scheme: str) -> None:
    with pytest.raises(BadMedia) as caught:
        MediaFile.find(f"{scheme}://example.com/a.mp4", "video")
    assert str(caught.value) == (
        f"'{scheme}://example.com/a.mp4' is a web address, which is not fetched; download the "
        "video and give its path"
    )


def test_no_name_is_an_address_for_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.wav", "http:", "-i"):
        assert MediaFile.find(name, "sound").address() == f"file:{tmp_path / name}"
    memory = MediaFile.find(DATA, "sound").address()
    assert isinstance(memory, io.BytesIO)
    assert memory.read() == DATA


def test_a_library_reads_on_from_the_descriptor(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with MediaFile.find(tmp_path / "a", "sound").open() as handle:
        assert handle.read(4) == DATA[:4]
        assert os.read(handle.fileno(), 100) == DATA[4:]  # a buffer would have eaten it


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cases: dict[str | Path, str] = {
        "missing.wav": "there is no image file 'missing.wav'; check the path",
        tmp_path: f"{str(tmp_path)!r} is a folder; give the path of one image file",
        "nul\0byte": "image file 'nul\\x00byte'",
        "x" * 5000: f"cannot read the image file '{'x' * 60}...{'x' * 30}': File name too long",
    }
    for source, sentence in cases.items():
        file = MediaFile.find(source, "image")
        assert sentence in refusal(file)
        with pytest.raises(BadMedia) as caught:
            file.read()
        assert sentence in str(caught.value)
        with pytest.raises(BadMedia):
            file.is_empty()
        assert file.folder == (source if source == tmp_path else None)


def test_emptiness(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert MediaFile.find(tmp_path / "empty", "video").is_empty()
    assert MediaFile.find(b"", "video").is_empty()


def test_a_pipe_is_read_when_it_is_found(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(DATA,), daemon=True)
    writer.start()
    file = MediaFile.find(pipe, "image")
    writer.join()
    again = MediaFile.find(file, "video")
    assert (again.kind, again.name) == ("video", str(pipe))
    for _ in range(2):  # from memory, as often as anybody likes
        with again.open() as handle:
            assert handle.read() == file.read() == DATA
    address = again.address()
    assert isinstance(address, io.BytesIO)
    assert address.read() == DATA


def test_standard_input_and_descriptors_are_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DATA)))
    assert MediaFile.find("-", "sound").read() == DATA
    monkeypatch.setattr("sys.stdin", None)  # closed by who started the program
    with pytest.raises(BadMedia, match="there is no sound file '-'"):
        MediaFile.find("-", "sound")
    (tmp_path / "a").write_bytes(DATA)
    with (tmp_path / "a").open("rb") as handle:
        assert MediaFile.find(f"/dev/fd/{handle.fileno()}", "sound").read() == DATA


def test_what_does_not_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ming_core.media.files.MOST_PIPED", 1 << 22)
    with pytest.raises(BadMedia, match="/dev/zero has more than 4 MB; check what it is"):
        MediaFile.find("/dev/zero", "image")
    (tmp_path / "long").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(BadMedia, match="has more than 1 MB"):
        MediaFile.find(tmp_path / "long", "image").read(1 << 20)


def test_names_cannot_command_a_terminal(tmp_path: Path) -> None:
    evil = tmp_path / "a\x1b[2J\nb.png"
    evil.touch()
    assert MediaFile.find(evil, "image").name == f"{tmp_path}/a\\x1b[2J\\nb.png"
    assert "\x1b" not in refusal(MediaFile.find(evil / "c", "image"))


def test_long_names_are_shortened() -> None:
    assert shortened("a" * 100) == "a" * 100
    assert shortened("a" * 60 + "b" * 50 + "c" * 30) == "a" * 60 + "..." + "c" * 30
