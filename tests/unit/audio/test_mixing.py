"""Several channels: nobody in any of them is lost, whatever is in the others."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from ming_audio.reading import count_channels, open_audio, stream_audio
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Video
from ming_core.notes import collected_notes

RATE = 16_000
TIME = np.arange(2 * RATE) / RATE
TONE = (0.5 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32)
OTHER = (0.25 * np.sin(2 * np.pi * 1_000 * TIME)).astype(np.float32)
HUM = (0.5 * np.sin(2 * np.pi * 50 * TIME)).astype(np.float32)
NONE = 0 * TONE


def wav(*channels: np.ndarray) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, np.stack(channels, 1), RATE, format="WAV", subtype="FLOAT")
    return data.getvalue()


def surround(**channels: np.ndarray) -> bytes:
    """5.1 in the order of its channels."""
    rows = [channels.get(name, NONE) for name in ("FL", "FR", "FC", "LFE", "BL", "BR")]
    data = io.BytesIO()
    soundfile.write(data, np.stack(rows, 1), RATE, format="FLAC")
    return data.getvalue()


def level(samples: np.ndarray, hertz: int) -> float:
    """The amplitude of a tone in it."""
    wave = np.exp(-2j * np.pi * hertz * TIME)
    return float(2 * np.abs(np.mean(samples * wave)))


def heard(source: Any, **options: Any) -> tuple[np.ndarray, list[str]]:
    with collected_notes() as notes:
        return open_audio(source, **options).samples, notes


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_silent_channel_does_not_halve_the_level(left_out: int) -> None:
    channels = [NONE, TONE] if left_out == 0 else [TONE, NONE]
    for source in (np.stack(channels), wav(*channels)):
        samples, notes = heard(source)
        assert np.array_equal(samples, TONE)
        assert notes == []


def test_equal_channels_are_one_of_them() -> None:
    for count in (2, 3, 8):
        samples, _ = heard(np.stack([TONE] * count))
        assert np.abs(samples - TONE).max() < 1e-6


def test_both_parties_of_a_call_are_heard() -> None:
    samples, _ = heard(wav(TONE, OTHER))
    assert level(samples, 440) > 0.3
    assert level(samples, 1_000) > 0.15
    assert np.abs(samples).max() < 1


def test_a_party_that_speaks_later_is_heard() -> None:
    late = np.concatenate([NONE[:RATE], OTHER[RATE:]])
    samples, _ = heard(np.stack([TONE, late]))
    assert np.array_equal(samples[:RATE], TONE[:RATE]) or level(samples, 440) > 0.3
    assert level(samples, 1_000) > 0.06


def test_channels_that_cancel_each_other_are_told() -> None:
    """As of a cable that swaps the poles of one side."""
    for channels, louder in (((TONE, -TONE), TONE), ((0.9 * TONE, -TONE), -TONE)):
        for source in (np.stack(channels), wav(*channels)):
            samples, notes = heard(source)
            assert np.array_equal(samples, louder)
            assert len(notes) == 1
            assert "cancel each other, so the louder one was heard" in notes[0]


def test_the_centre_of_a_film_is_heard_and_its_rumble_is_not() -> None:
    samples, _ = heard(surround(FC=TONE, LFE=HUM))
    assert np.abs(samples - TONE).max() <= 1 / 32768
    film = surround(FC=TONE, FL=OTHER, FR=OTHER, LFE=HUM)
    samples, _ = heard(film)
    assert level(samples, 440) > 0.3
    assert level(samples, 50) < 0.01
    assert np.abs(heard(film, channel=3)[0] - HUM).max() <= 1 / 32768
    assert count_channels(film) == 6


def test_a_channel_is_chosen_by_its_number() -> None:
    for source in (np.stack([TONE, OTHER]), wav(TONE, OTHER)):
        assert np.array_equal(heard(source, channel=0)[0], TONE)
        assert np.array_equal(heard(source, channel=1)[0], OTHER)
        blocks = list(stream_audio(source, channel=1, seconds=0.3))
        assert np.array_equal(np.concatenate(blocks), OTHER)
    samples, notes = heard(wav(NONE, TONE), channel=0)
    assert not samples.any()
    assert notes == ["channel 0 of the sound data has next to no sound, but channel 1 has some"]


def test_a_channel_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(BadMedia, match="the sound has only one channel, number 0, so there is no"):
        open_audio(TONE, channel=1)
    with pytest.raises(BadMedia, match="the sound data has the channels 0 to 1, so there is no ch"):
        open_audio(wav(TONE, OTHER), channel=2)
    wrong: Any
    for wrong in (-1, "left", True, None, 1.0):
        with pytest.raises(BadConfig, match=r"channel of a sound is .*; it must be 'mix' or a"):
            open_audio(TONE, channel=wrong)
        with pytest.raises(BadConfig, match="channel of a sound is"):
            Audio(TONE, channel=wrong)
    assert Video("film.mp4", sound=True, channel=1).track.channel == 1
