"""Sounds without a word, of which nothing is to be written down: silence, noise, hum, tones and
music."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ming_recipes.nano.world.scene import pick

RATE = 16_000
SECONDS = (0.5, 7.0)

Times = np.ndarray
"""[N] float64, the time of each sample in s."""


def wordless(kind: str, rng: np.random.Generator) -> np.ndarray:
    """[N] float32 at 16 kHz within -1 to 1. kind: a key of WORDLESS."""
    times = np.arange(int(rng.uniform(*SECONDS) * RATE)) / RATE
    sound = WORDLESS[kind](times, rng)
    loudest = float(np.abs(sound).max())
    level = 10 ** (rng.uniform(-40, 0) / 20)
    return (sound / max(loudest, 1.0) * level).astype(np.float32)


def _silence(times: Times, rng: np.random.Generator) -> np.ndarray:
    """Nothing at all, or what a quiet room and a cheap microphone leave."""
    if rng.random() < 0.3:
        return np.zeros(len(times))
    return _noise(times, rng) * 10 ** (rng.uniform(-60, -30) / 20)


def _noise(times: Times, rng: np.random.Generator) -> np.ndarray:
    """White to brown, steady or swelling as wind and waves do."""
    spectrum = np.fft.rfft(rng.standard_normal(len(times)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** rng.uniform(0, 1)
    sound = np.fft.irfft(spectrum, len(times))
    sound /= np.abs(sound).max()
    if rng.random() < 0.5:
        return sound
    return sound * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.2, 4) * times))


def _hum(times: Times, rng: np.random.Generator) -> np.ndarray:
    """The mains and its harmonics, an engine, a fan."""
    base = pick(rng, (50.0, 60.0)) if rng.random() < 0.6 else rng.uniform(30, 200)
    return _voices(times, base * np.arange(1, 9), rng) + 0.1 * _noise(times, rng)


def _tone(times: Times, rng: np.random.Generator) -> np.ndarray:
    """A tone, two at once as a telephone dials, or one that glides; steady, or in beeps."""
    start, end = np.exp(rng.uniform(np.log(80), np.log(6000), 2))
    if rng.random() < 0.7:
        end = start
    pitch = start + (end - start) * times / times[-1]
    sound = np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
    if rng.random() < 0.3:
        sound = (sound + np.sin(2 * np.pi * rng.uniform(300, 1700) * times)) / 2
    if rng.random() < 0.4:
        sound = sound * (np.sin(2 * np.pi * rng.uniform(0.5, 5) * times) > 0)
    return sound


def _music(times: Times, rng: np.random.Generator) -> np.ndarray:
    """Chords of one to three notes of a scale, struck or bowed, one after the other."""
    scale = 110 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19]) / 12)
    scale = scale * 2 ** rng.uniform(0, 2)
    beat = rng.uniform(0.12, 0.6)
    struck = rng.random() < 0.6
    sound = np.zeros(len(times))
    for start in range(0, len(times), int(beat * RATE)):
        heard = sound[start : start + int(beat * RATE)]
        after = times[: len(heard)]
        loud = np.minimum(after / 0.01, 1) * (np.exp(-after / (0.6 * beat)) if struck else 1)
        for _ in range(1 + int(rng.random() * 3)):
            pitches = pick(rng, tuple(scale)) * np.arange(1, 6)
            heard += loud * _voices(after, pitches, rng) / 3
    return sound


def _voices(times: Times, pitches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sound of some partials, each weaker than the one below it."""
    parts = [
        np.sin(2 * np.pi * (pitch * times + rng.random())) / (1 + i) ** rng.uniform(0.5, 1.5)
        for i, pitch in enumerate(pitches)
        if pitch < RATE / 2
    ]
    return np.sum(parts, axis=0) / len(parts)


WORDLESS: Mapping[str, Callable[[Times, np.random.Generator], np.ndarray]] = {
    "silence": _silence,
    "noise": _noise,
    "hum": _hum,
    "tone": _tone,
    "music": _music,
}
