"""Sounds of any kind as one channel at 16 kHz, whole and in blocks."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from ming_audio.reading import Sound, audio_seconds, open_audio, stream_audio
from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile

RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: Any) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def encode(path: Path, codec: str, rate: int, with_pictures: bool = False) -> Path:
    """One second of 440 Hz on the left, silence on the right, by FFmpeg."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5) if with_pictures else None
        sound: Any = container.add_stream(codec, rate=rate, layout="stereo")
        if pictures is not None:
            pictures.width = pictures.height = 32
            grey = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8))
            container.mux(pictures.encode(grey))
            container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(np.stack([tone, 0 * tone]), "fltp", "stereo")
        frame.sample_rate = rate
        fitting = av.AudioResampler(
            sound.codec_context.format.name, "stereo", rate, sound.codec_context.frame_size or 1024
        )
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return path


def loudest_hertz(samples: np.ndarray) -> float:
    middle = samples[2000:14000]
    return float(np.abs(np.fft.rfft(middle)).argmax() * RATE / len(middle))


def test_every_kind_of_source_gives_the_same_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a tone.wav", TONE, subtype="FLOAT")
    data = path.read_bytes()
    pair = (TONE[None], RATE)
    for source in (path, str(path), path.as_uri(), data, bytearray(data), TONE, pair, Sound(*pair)):
        if isinstance(source, Sound):
            source = Sound(TONE, RATE)
        sound = open_audio(source)
        assert sound.rate == RATE
        assert sound.samples.dtype == np.float32
        assert np.array_equal(sound.samples, TONE), type(source)
        assert audio_seconds(source) == 1.0
    assert np.array_equal(open_audio(torch.from_numpy(TONE)).samples, TONE)
    assert np.array_equal(open_audio((torch.from_numpy(TONE)[None], RATE)).samples, TONE)


@pytest.mark.parametrize(
    ("kind", "subtype", "error"),
    [
        ("wav", "PCM_U8", 1 / 128),
        ("wav", "PCM_16", 1 / 32768),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("flac", "PCM_16", 1 / 32768),
        ("aiff", "PCM_16", 1 / 32768),
        ("ogg", "VORBIS", 0.1),
        ("ogg", "OPUS", 0.1),
        ("mp3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_formats_of_libsndfile(tmp_path: Path, kind: str, subtype: str, error: float) -> None:
    path = write(tmp_path / f"tone.{kind}", TONE, subtype=subtype, format=kind.upper())
    samples = open_audio(path).samples
    assert len(samples) == RATE
    assert np.abs(samples - TONE)[2000:-2000].max() <= error
    assert np.array_equal(open_audio(path.read_bytes()).samples, samples)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.m4a", "aac", 44_100), ("a.webm", "libopus", 48_000), ("a.mka", "pcm_s16le", 8_000)],
)
def test_formats_of_ffmpeg(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = encode(tmp_path / name, codec, rate)
    samples = open_audio(path).samples
    assert abs(len(samples) / RATE - 1) < 0.09  # codecs fill their last packet
    assert loudest_hertz(samples) == pytest.approx(440, abs=2)
    assert 0.4 < np.abs(samples[2000:14000]).max() < 0.6  # the left channel, not the mean
    seconds = audio_seconds(path)
    assert seconds is not None
    assert seconds == pytest.approx(1, abs=0.09)


def test_the_sound_of_a_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", "aac", 44_100, with_pictures=True)
    assert loudest_hertz(open_audio(path).samples) == pytest.approx(440, abs=2)
    assert np.array_equal(open_audio(path.read_bytes()).samples, open_audio(path).samples)


def test_integers_are_divided_by_their_full_scale() -> None:
    for dtype, full in ((np.int8, 2**7), (np.int16, 2**15), (np.int32, 2**31), (np.int64, 2**63)):
        values = np.array([-full, 0, full // 2], dtype)
        assert open_audio(values).samples.tolist() == [-1.0, 0.0, 0.5]
    unsigned = np.array([0, 128, 192], np.uint8)
    assert open_audio(unsigned).samples.tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 44_099, 192_000])
def test_other_rates_keep_length_and_pitch(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    path = write(tmp_path / "tone.wav", tone, rate, subtype="FLOAT")
    samples = open_audio(path).samples
    assert len(samples) == RATE
    assert np.abs(samples - TONE)[500:-500].max() < 2e-3


def test_a_tone_above_half_the_new_rate_is_gone() -> None:
    high = np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(open_audio((high, 48_000)).samples[500:-500]).max() < 5e-3


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_are_the_whole_in_pieces(tmp_path: Path, rate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * rate + 77).astype(np.float32)
    path = write(tmp_path / "noise.flac", noise, rate)
    whole = open_audio(path).samples
    blocks = list(stream_audio(path, seconds=0.7))
    assert {len(block) for block in blocks[:-1]} == {round(0.7 * RATE)}
    assert 0 < len(blocks[-1]) <= round(0.7 * RATE)
    assert np.array_equal(np.concatenate(blocks), whole)


def test_reading_in_blocks_decodes_only_what_is_asked_for(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 120 * RATE).astype(np.float32)
    noise[100 * RATE] = np.nan  # a fault that is met only by who gets there
    path = write(tmp_path / "long.wav", noise, subtype="FLOAT")
    blocks = stream_audio(path, seconds=10)
    assert np.array_equal(next(blocks), noise[: 10 * RATE])


def test_silence_is_a_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "silence.wav", np.zeros(RATE))
    assert not open_audio(path).samples.any()


def test_memory_files_are_judged_by_content(tmp_path: Path) -> None:
    data = io.BytesIO()
    soundfile.write(data, TONE, RATE, format="FLAC")
    for name in ("tone.raw", "tone.mp3", "tone.txt", "tone"):
        path = tmp_path / name
        path.write_bytes(data.getvalue())
        assert np.abs(open_audio(path).samples - TONE).max() < 1e-4, name


def test_an_open_file_is_no_array() -> None:
    with pytest.raises(BadMedia, match="cannot read a sound from BytesIO; give the path of a file"):
        open_audio(io.BytesIO(b"RIFF"))


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that fails, or of `/proc`."""

    class Failing(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(MediaFile, "open", lambda self: Failing(b"RIFF"))
    with pytest.raises(BadMedia, match=r"cannot read the sound file 'talk\.wav': Input/output"):
        open_audio("talk.wav")
