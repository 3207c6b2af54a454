"""Files that are more than one, and files whose headers are wrong: all of them is heard."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from ming_audio.links import links
from ming_audio.reading import audio_seconds, open_audio
from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile
from ming_core.notes import collected_notes

RATE = 16_000
FIRST = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
SECOND = np.random.default_rng(2).normal(0, 0.1, RATE).astype(np.float32)
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)).astype(np.float32)


def encoded(samples: np.ndarray, kind: str, rate: int = RATE, **options: Any) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=kind, **options)
    return data.getvalue()


def quietly(data: bytes | Path) -> np.ndarray:
    """Its samples, of which there is nothing to note."""
    with collected_notes() as notes:
        samples = open_audio(data).samples
    assert notes == []
    return samples


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "W64", "FLAC", "OGG", "MP3"])
def test_joined_files_are_heard_to_the_end(kind: str, tmp_path: Path) -> None:
    parts = [encoded(samples, kind) for samples in (FIRST, SECOND)]
    path = tmp_path / "joined"
    path.write_bytes(b"".join(parts))
    alone = np.concatenate([quietly(part) for part in parts])
    samples = quietly(path)
    assert abs(len(samples) - len(alone)) <= (0.2 * RATE if kind == "MP3" else 0)
    if kind not in ("OGG", "MP3"):
        assert np.array_equal(samples, alone)
    assert np.std(samples[-RATE // 2 :]) == pytest.approx(0.1, abs=0.03)
    assert np.array_equal(quietly(path.read_bytes()), samples)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_joined_files_of_other_rates_and_channels(kind: str) -> None:
    second = encoded(np.stack([TONE, TONE], 1), kind, 24_000)
    samples = quietly(encoded(FIRST, kind) + second)
    assert len(samples) == pytest.approx(3 * RATE, abs=0.2 * RATE)
    end = samples[-RATE // 2 - 2_000 : -2_000]
    assert np.abs(np.fft.rfft(end)).argmax() * RATE / len(end) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("flv", "mp3", 44_100),
        ("asf", "wmav2", RATE),
        ("tta", "tta", RATE),
        ("voc", "pcm_u8", RATE),
        ("matroska", "pcm_s16le", RATE),
        ("mov", "pcm_s16le", RATE),
    ],
)
def test_other_joined_files_are_heard_to_the_end(kind: str, codec: str, rate: int) -> None:
    parts = [muxed(samples, kind, codec, rate) for samples in (FIRST, SECOND)]
    alone = [quietly(part) for part in parts]
    assert len(alone[0]) == pytest.approx(2 * RATE, abs=0.1 * RATE)
    samples, expected = quietly(b"".join(parts)), np.concatenate(alone)
    assert len(samples) == pytest.approx(len(expected), abs=2)
    size = len(alone[0]) - RATE // 2  # at the joint the resampler of another rate goes on
    assert np.abs(samples[:size] - expected[:size]).max() < 0.01
    assert np.std(samples[-RATE // 2 :]) == pytest.approx(0.1, abs=0.03)


def muxed(samples: np.ndarray, kind: str, codec: str, rate: int) -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        values = (samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(values, "s16", "mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return data.getvalue()


def test_a_chain_of_vorbis_and_opus() -> None:
    parts = encoded(FIRST, "OGG", subtype="VORBIS"), encoded(SECOND, "OGG", subtype="OPUS")
    assert len(quietly(parts[0] + parts[1])) == pytest.approx(3 * RATE, abs=200)


def test_vorbis_is_that_of_its_own_library() -> None:
    for count in (1_000, RATE, 2 * RATE, 33_333):
        data = encoded(np.resize(FIRST, count), "OGG", subtype="VORBIS")
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        samples = quietly(data)
        assert len(samples) == count
        assert np.abs(samples - expected).max() < 1e-5


def test_a_tag_in_the_middle_and_a_wrong_count_of_frames() -> None:
    """An mp3 whose first frame counts only itself, with a picture in front of the second part."""
    parts = encoded(FIRST, "MP3"), encoded(SECOND, "MP3")
    tag = b"ID3\x03\0\0" + bytes([0, 0, 40, 0]) + bytes(40 * 128)
    samples = quietly(parts[0] + tag + parts[1])
    assert len(samples) == pytest.approx(3 * RATE, abs=0.15 * RATE)


def sized(data: bytes, at: int, layout: str, size: int) -> bytes:
    spoilt = bytearray(data)
    struct.pack_into(layout, spoilt, at, size)
    return bytes(spoilt)


SIZES: dict[str, tuple[Callable[[bytes], int], str]] = {
    "WAV": (lambda data: data.index(b"data") + 4, "<I"),
    "AIFF": (lambda data: data.index(b"SSND") + 4, ">I"),
    "AU": (lambda data: 8, ">I"),
    "CAF": (lambda data: data.index(b"data") + 4, ">Q"),
    "W64": (lambda data: data.index(b"data\xf3\xac") + 16, "<Q"),
    "RF64": (lambda data: data.index(b"ds64") + 16, "<Q"),
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("size", ["0", "-1", "small", "itself", "huge"])
def test_a_wrong_size_does_not_matter(kind: str, size: str) -> None:
    data = encoded(FIRST, kind)
    place, layout = SIZES[kind]
    most = 256 ** struct.calcsize(layout) - 1
    claimed = {"0": 0, "-1": most, "small": 1_000, "itself": len(data), "huge": most // 4}[size]
    with collected_notes() as notes:
        samples = open_audio(sized(data, place(data), layout, claimed)).samples
    assert np.abs(samples - FIRST).max() <= 1 / 32768
    assert len(samples) == len(FIRST)
    expected = size == "huge" and most // 4 < (1 << 60)
    assert [note.endswith("breaks off at 2.0 s; what it holds was used") for note in notes] == (
        [True] if expected else []
    )


def test_an_empty_wav_with_a_list_has_no_samples() -> None:
    data = encoded(FIRST[:0], "WAV")
    data += b"LIST" + struct.pack("<I", 4) + b"INFO"
    with pytest.raises(BadMedia, match="has no samples"):
        open_audio(data)


def test_odd_chunks_are_no_sound() -> None:
    data = encoded(FIRST, "WAV")
    chunk = b"junk" + struct.pack("<I", 5) + b"12345\0"
    head, rest = data[:12], data[12:]
    assert np.array_equal(quietly(head + chunk + rest + chunk), quietly(data))
    unaligned = b"note" + struct.pack("<I", 7) + b"1234567"
    assert np.array_equal(quietly(data + unaligned), quietly(data))


def test_streams_of_a_pipe_that_were_joined() -> None:
    """Headers that were never filled in, one behind the other."""
    parts = [sized(encoded(samples, "WAV"), 40, "<I", 0xFFFF_FFFF) for samples in (FIRST, SECOND)]
    samples = quietly(b"".join(parts))
    assert np.abs(samples - np.concatenate([FIRST, SECOND])).max() <= 1 / 32768


def test_a_streamed_flac_is_read() -> None:
    """Its header has no length, as the writer could not go back."""
    data = bytearray(encoded(FIRST, "FLAC"))
    data[21] &= 0xF0  # the upper bits of the number of samples
    data[22:26] = bytes(4)
    assert np.abs(quietly(bytes(data)) - FIRST).max() <= 1 / 32768
    assert audio_seconds(bytes(data)) is None


def test_many_tiny_chunks_end_soon() -> None:
    data = encoded(FIRST[:0], "WAV")[:36] + b"junk\0\0\0\0" * 200_000
    assert len(links(MediaFile.find(data, "sound"))) == 1
