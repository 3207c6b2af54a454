"""Bad sounds: one clear sentence each, or the documented way out, from files and from memory."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ming_audio.logmel import log_mel
from ming_audio.reading import audio_seconds, open_audio, stream_audio
from ming_audio.segments import segments
from ming_core.errors import BadMedia
from ming_core.notes import collected_notes

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def encoded(samples: np.ndarray = NOISE, rate: int = RATE, **options: Any) -> bytes:
    """As a wav file unless told otherwise."""
    buffer = io.BytesIO()
    options.setdefault("format", "WAV")
    soundfile.write(buffer, samples, rate, **options)
    return buffer.getvalue()


def with_header(position: int, layout: str, value: int) -> bytes:
    """A 16-bit wav with one number of its header replaced."""
    data = bytearray(encoded())
    struct.pack_into(layout, data, position, value)
    return bytes(data)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


@cache
def mp4(seconds: int = 1, fast: bool = True) -> bytes:
    """fast: with its table of contents in front, which takes a file that can be read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.mp4"
        options = {"movflags": "faststart"} if fast else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("aac", rate=RATE, layout="mono")
            noise = np.tile(NOISE, seconds)[None]
            for first in range(0, seconds * RATE - 1024, 1024):
                piece = np.ascontiguousarray(noise[:, first : first + 1024])
                frame = av.AudioFrame.from_ndarray(piece, "fltp", "mono")
                frame.sample_rate = RATE
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    return buffer.getvalue()


def silent_film() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    return buffer.getvalue()


def absurd_mp4() -> bytes:
    """A box that says it ends where no file does."""
    box = (1).to_bytes(4, "big") + b"mdat" + (2**64 - 1).to_bytes(8, "big") + bytes(100)
    return b"\0\0\0\x10ftypisom" + bytes(4) + box


def spoilt(value: float) -> np.ndarray:
    samples = NOISE.copy()
    samples[4_000] = value
    return samples


UNKNOWN = "is no sound in a known format, or it is damaged or cut short; expected wav, flac, ogg"
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "is empty; expected wav, flac, ogg, mp3, m4a or a video"),
    "no samples": (lambda: encoded(NOISE[:0]), "has no samples; give a sound that lasts"),
    "no channels": (lambda: with_header(22, "<H", 0), "has no samples"),
    "no rate": (lambda: with_header(24, "<I", 0), UNKNOWN),
    "absurd rate": (lambda: with_header(24, "<I", 12), "claims 12 samples per second; 1,000 to"),
    "text": (lambda: b"This is no sound. " * 200, UNKNOWN),
    "zeros": (lambda: bytes(5_000), UNKNOWN),
    "picture": (picture, UNKNOWN),
    "zip": (lambda: b"PK\x03\x04" + bytes(range(256)) * 20, UNKNOWN),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n", UNKNOWN),
    "mp4 whose size is absurd": (absurd_mp4, UNKNOWN),
    "mp4 without its end": (lambda: half(mp4(fast=False)), UNKNOWN),
    "film without sound": (silent_film, "holds no sound; give a file that has some"),
    "NaN": (
        lambda: encoded(spoilt(float("nan")), subtype="FLOAT"),
        r"has a value that is no finite number at 0\.25 s; repair it",
    ),
    "infinity": (
        lambda: encoded(spoilt(float("-inf")), subtype="DOUBLE"),
        r"has a value that is no finite number at 0\.25 s",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_end_in_one_sentence(fault: str, tmp_path: Path) -> None:
    make, message = BAD[fault]
    path = tmp_path / "bad.wav"
    path.write_bytes(make())
    with pytest.raises(BadMedia, match=message) as raised:
        open_audio(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    with pytest.raises(BadMedia, match=message):
        open_audio(make())
    with pytest.raises(BadMedia, match=message):
        list(segments(stream_audio(path)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros(0, np.float32), "the sound has no samples"),
        (np.zeros((0, 100), np.float32), r"1 to 64 channels, not \[0, 100\]"),
        (np.zeros((16_000, 2), np.float32), r"not \[16000, 2\]; transpose it first"),
        (np.zeros((1, 2, 3), np.float32), r"not \[1, 2, 3\]"),
        (np.zeros(100, np.uint16), "floats in .* or signed integers, not uint16"),
        (np.zeros(100, np.complex64), "not complex64"),
        (np.zeros(100, bool), "not bool"),
        ((NOISE, 0), "claims 0 samples per second; 1,000 to 1,000,000 are allowed"),
        ((NOISE, 2_000_000), "claims 2000000 samples per second"),
        ((NOISE, 16_000.0), "cannot read a sound from tuple; give the path of a file"),
        (spoilt(float("nan")), "the sound has a value that is no finite number at 0.25 s"),
        ([0.0, 0.1], "cannot read a sound from list"),
        (None, "cannot read a sound from NoneType"),
        ("https://example.org/a.wav", "is a web address, which is not fetched; download"),
        ("missing.wav", "there is no sound file 'missing.wav'; check the path"),
        ("nul\0byte.wav", "sound file"),
        ("a" * 5_000, "cannot read the sound file"),
    ],
)
def test_bad_sources_end_in_one_sentence(source: Any, message: str) -> None:
    with pytest.raises(BadMedia, match=message):
        open_audio(source)


def test_folders_and_names_that_look_like_addresses(tmp_path: Path) -> None:
    with pytest.raises(BadMedia, match="is a folder; give the path of one sound file"):
        open_audio(tmp_path)
    path = tmp_path / "concat:a|b.wav"
    path.write_bytes(b"no sound")
    with pytest.raises(BadMedia, match=UNKNOWN):
        open_audio(path)


def test_floats_on_another_scale_are_refused() -> None:
    for source, value in ((NOISE * 32_768, "411"), (spoilt(1e20), "1e"), (spoilt(-5.0), "-5 ")):
        with pytest.raises(BadMedia, match=f"the sound has the value {value}.*within .-1, 1.; div"):
            open_audio(source)
    data = encoded(NOISE * 32_768, subtype="FLOAT")
    with pytest.raises(BadMedia, match=r"has the value .* at 0\.0[0-9] s, and floats must lie"):
        open_audio(data)
    loud = NOISE * 9
    assert np.array_equal(open_audio(loud).samples, loud)  # no other scale


def test_what_is_read_all_the_same(tmp_path: Path) -> None:
    """8 bit, 192 kHz, a false name, a length that the writer did not know, and silence."""
    for data, error in (
        (encoded(subtype="PCM_U8"), 1 / 128),
        (with_header(40, "<I", 0xFFFF_FFFF), 1 / 32768),  # written into a pipe
        (encoded(format="FLAC"), 1 / 32768),  # in a file called .mp3
    ):
        path = tmp_path / "sound.mp3"
        path.write_bytes(data)
        assert np.abs(open_audio(path).samples - NOISE).max() <= error
    high = open_audio(encoded(np.repeat(NOISE, 12), 192_000)).samples
    assert len(high) == RATE
    silence = open_audio(encoded(0 * NOISE)).samples
    assert (log_mel(silence) == -1.5).all()
    assert list(segments([silence])) == []


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "mp4"])
def test_a_recording_that_breaks_off_gives_what_it_holds(kind: str, tmp_path: Path) -> None:
    whole = mp4(6) if kind == "mp4" else encoded(np.tile(NOISE, 6), format=kind)
    path = tmp_path / "broken"
    path.write_bytes(half(whole))
    with collected_notes() as notes:
        samples = open_audio(path).samples
    assert 2.6 * RATE < len(samples) < 3.2 * RATE
    sentence = f"{path} breaks off at {len(samples) / RATE:.1f} s; what it holds was used"
    assert notes == [sentence]
    with collected_notes() as notes:
        assert np.array_equal(open_audio(half(whole)).samples, samples)
    assert notes == [sentence.replace(str(path), "the sound data")]


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_formats_without_a_promise_give_what_there_is(kind: str) -> None:
    long = np.tile(NOISE, 10)
    samples = open_audio(half(encoded(long, format=kind))).samples
    assert 3 * RATE < len(samples) < 7 * RATE
    assert np.isfinite(samples).all()


def test_the_length_of_a_bad_file() -> None:
    with pytest.raises(BadMedia, match=UNKNOWN):
        audio_seconds(b"This is no sound.")
    with pytest.raises(BadMedia, match="is empty"):
        audio_seconds(b"")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "mp4"]))
def test_random_damage_is_read_or_refused(data: st.DataObject, kind: str) -> None:
    damaged = bytearray(mp4() if kind == "mp4" else encoded(NOISE[:4_000], format=kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        samples = open_audio(bytes(damaged)).samples
    except BadMedia:
        return
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()


def test_a_title_that_is_no_text_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "äääää"
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    written = path.read_bytes()
    assert "äääää".encode() in written
    path.write_bytes(written.replace("äääää".encode(), b"\x80" * 10))
    assert len(open_audio(path).samples) >= 4096


def test_what_is_too_long_to_be_read_whole_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ming_audio.reading.MAX_HOURS", 1)
    hours = encoded(np.zeros(1_000 * 3_700, np.float32), 1_000, format="FLAC")
    assert len(hours) < 200_000
    with pytest.raises(BadMedia, match="longer than the 1 h that are read as a whole; read it"):
        open_audio(hours)
    assert sum(map(len, stream_audio(hours))) == 3_700 * RATE


def test_headers_that_claim_too_much_cost_nothing() -> None:
    for place, layout, value in ((22, "<H", 65_535), (24, "<I", 10**9), (34, "<H", 65_535)):
        with pytest.raises(BadMedia):
            open_audio(with_header(place, layout, value))
