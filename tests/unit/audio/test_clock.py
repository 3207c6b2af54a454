"""Seconds are those of the file, and the track that is heard is the one that players take."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from ming_audio.reading import open_audio, stream_audio
from ming_core.notes import collected_notes

RATE = 16_000
SIZES = {"pcm_s16le": 320, "mp2": 1152}
"""Samples of a packet."""

NOISE = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)


def muxed(
    starts: Sequence[tuple[float, float]], kind: str, codec: str, pictures: bool = True
) -> bytes:
    """Noise in stretches, each (from the second, for so many), and pictures from 0 on."""
    data = io.BytesIO()
    with av.open(data, "w", format=kind) as container:
        film: Any = container.add_stream("mpeg2video", rate=25) if pictures else None
        sound: Any = container.add_stream(codec, rate=RATE, layout="mono")
        if film is not None:
            film.width = film.height = 32
            for number in range(3):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
                picture.pts, picture.time_base = number, Fraction(1, 25)
                container.mux(film.encode(picture))
            container.mux(film.encode())
        packets = []
        size = SIZES[codec]
        at = 0
        ticks: list[float] = []
        for start, seconds in starts:
            for first in range(0, round(seconds * RATE), size):
                piece = NOISE[at : at + size]
                values = (piece * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(values, "s16", "mono")
                frame.sample_rate = RATE
                frame.time_base = Fraction(1, RATE)
                frame.pts = at
                packets += sound.encode(frame)
                ticks.append(start + first / RATE)
                at += size
        for packet, second in zip(packets, ticks):
            packet.pts = packet.dts = round(second * RATE)
            packet.time_base = Fraction(1, RATE)
            container.mux(packet)
    return data.getvalue()


def stretches(samples: np.ndarray) -> list[tuple[float, float]]:
    """(from, to) in seconds of what is no silence."""
    loud = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).max(1) > 0.01
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]]))) / 100
    return [(float(a), float(b)) for a, b in edges.reshape(-1, 2)]


def heard(data: bytes | Path) -> list[tuple[float, float]]:
    with collected_notes() as notes:
        samples = open_audio(data).samples
        blocks = list(stream_audio(data, seconds=0.7))
    assert notes == []
    assert np.array_equal(np.concatenate(blocks), samples)
    return stretches(samples)


@pytest.mark.parametrize(("kind", "codec"), [("matroska", "pcm_s16le"), ("mpegts", "mp2")])
def test_a_sound_that_begins_late_begins_late(kind: str, codec: str) -> None:
    ((start, end),) = heard(muxed([(3.9, 2.0)], kind, codec))
    assert start == pytest.approx(3.9, abs=0.04)
    assert end == pytest.approx(5.9, abs=0.06)


@pytest.mark.parametrize(("kind", "codec"), [("matroska", "pcm_s16le"), ("mpegts", "mp2")])
@pytest.mark.parametrize("pictures", [False, True])
def test_a_gap_is_silence(kind: str, codec: str, pictures: bool) -> None:
    first, second = heard(muxed([(0.0, 1.0), (21.0, 1.0)], kind, codec, pictures))
    assert first == pytest.approx((0.0, 1.0), abs=0.06)
    assert second == pytest.approx((21.0, 22.0), abs=0.08)


@pytest.mark.parametrize("jump", [40_000.0, 90_000.0])
@pytest.mark.parametrize(("kind", "codec"), [("matroska", "pcm_s16le"), ("mpegts", "mp2")])
def test_a_clock_that_jumps_makes_no_silence(kind: str, codec: str, jump: float) -> None:
    ((start, end),) = heard(muxed([(0.0, 1.0), (jump, 1.0)], kind, codec))
    assert start == pytest.approx(0, abs=0.02)
    assert end == pytest.approx(2, abs=0.1)


def test_a_clock_that_begins_anew_makes_no_silence() -> None:
    """Two recordings in one stream, the second with a gap of its own."""
    part = muxed([(0.0, 4.0)], "mpegts", "mp2", pictures=False)
    other = muxed([(0.0, 1.0), (3.0, 1.0)], "mpegts", "mp2", pictures=False)
    first, second = heard(part + other)
    assert first == pytest.approx((0.0, 5.0), abs=0.15)
    assert second == pytest.approx((7.0, 8.0), abs=0.15)


def test_jitter_of_a_clock_is_no_gap() -> None:
    starts = [(i * 0.04 + 0.02 * (i % 2), 0.04) for i in range(50)]
    ((start, end),) = heard(muxed(starts, "matroska", "pcm_s16le", pictures=False))
    assert (start, end) == pytest.approx((0.0, 2.0), abs=0.01)


def test_what_was_trimmed_is_not_heard(tmp_path: Path) -> None:
    """An edit list hides the start of the sound; the samples of an encoder's run-up, too."""
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=RATE, layout="mono")
        for first in range(0, 4 * RATE, 1024):
            tone = 0.1 + 0.8 * (np.arange(first, first + 1024) > 2 * RATE)
            values = (tone * np.sin(np.arange(first, first + 1024) / 5))[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    data = path.read_bytes()
    whole = open_audio(data).samples
    assert len(whole) / RATE == pytest.approx(4.0, abs=0.07)
    loud = np.abs(whole).reshape(-1)[: len(whole) // 160 * 160].reshape(-1, 160).max(1) > 0.5
    assert loud.argmax() / 100 == pytest.approx(2.0, abs=0.02)

    at = data.index(b"elst")
    assert data[at + 8 : at + 12] == b"\0\0\0\1"
    edited = bytearray(data)
    start = int.from_bytes(edited[at + 16 : at + 20], "big")
    edited[at + 12 : at + 16] = (1500).to_bytes(4, "big")  # milliseconds, as of the whole film
    edited[at + 16 : at + 20] = (start + RATE).to_bytes(4, "big")
    with collected_notes() as notes:
        trimmed = open_audio(bytes(edited)).samples
    assert notes == []
    assert len(trimmed) / RATE == pytest.approx(1.5, abs=0.07)
    loud = np.abs(trimmed[: len(trimmed) // 160 * 160]).reshape(-1, 160).max(1) > 0.5
    assert loud.argmax() / 100 == pytest.approx(1.0, abs=0.02)


def tracks(*tones: float, default: int | None = None, unknown: int | None = None) -> bytes:
    """A tone for each track; one may be the default, and one of an unknown coding."""
    data = io.BytesIO()
    with av.open(data, "w", "matroska") as container:
        streams = []
        for number in range(len(tones)):
            stream: Any = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            stream.disposition = Disposition.default if number == default else 0
            streams.append(stream)
        for stream, hertz in zip(streams, tones):
            wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
            frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    written = data.getvalue()
    if unknown is not None:
        pieces = written.split(b"A_PCM/INT/LIT")
        names = [b"A_PCM/INT/LIT"] * len(tones)
        names[unknown] = b"A_WHAT/EVER/X"
        written = b"".join(a + b for a, b in zip(pieces, [*names, b""]))
    return written


@pytest.mark.parametrize(
    ("options", "heard"),
    [
        ({}, 1),
        ({"default": 1}, 2),
        ({"unknown": 0}, 2),
        ({"default": 0, "unknown": 0}, 2),
        ({"default": 1, "unknown": 1}, 1),
    ],
)
def test_the_default_track_that_can_be_decoded(options: dict[str, int], heard: int) -> None:
    with collected_notes() as notes:
        samples = open_audio(tracks(500, 700, **options)).samples
    assert np.abs(np.fft.rfft(samples)).argmax() == (500, 700)[heard - 1]
    assert notes == [
        f"the sound data has 2 tracks of sound, of which only number {heard} was heard"
    ]


def test_one_track_needs_no_note() -> None:
    with collected_notes() as notes:
        open_audio(tracks(500))
    assert notes == []
