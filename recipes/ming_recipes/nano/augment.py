"""Changes of a recording, so that a few voices are enough for training: other voices, rooms, lines.

All random numbers come from the generator that the caller gives. For training only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ming_audio.lengths import RATE
from ming_audio.logmel import log_mel

QUANTUM = RATE * 8 // 25
"""Sounds are filled up to a multiple of so many samples (0.32 s), so that many are equally long."""

LONGEST = 7.0
"""Longest sound in seconds; nano hears 8 s at once."""

_SPEED = 0.2  # at most so much faster or slower, pitch and formants with it
_WARP = 0.12  # at most so much longer or shorter throats
_CONTRAST = (0.7, 1.25)  # of loud to soft, in multiples of the voice's own
_EDGE = 0.25  # seconds of silence at most before and after


def vary(samples: np.ndarray, n_mels: int, rng: np.random.Generator) -> Tensor:
    """[N] int16 -> log-mel [T, n_mels] float32 of the utterance, changed."""
    speed = max(1 + _SPEED * (2 * rng.random() - 1), len(samples) / (LONGEST * RATE))
    x = _faster(samples.astype(np.float32) / 2**15, speed)
    x = _padded(x, rng)
    if rng.random() < 0.3:
        x = _in_a_room(x, rng)
    # Some have digital silence around them, as all that programs say; most do not, since it would
    # tell where speech is.
    if rng.random() < 0.85:
        loudness = float(np.sqrt(np.mean(x**2))) + 1e-4
        level = rng.uniform(8, 45) if rng.random() < 0.6 else rng.uniform(45, 70)
        x = x + _noise(len(x), rng) * loudness * 10 ** (-level / 20)
    x = x * 10 ** (rng.uniform(-18, 6) / 20)
    warp = _WARP * (2 * rng.random() - 1)
    mel = _warped(log_mel(x.astype(np.float32), n_mels).numpy(), warp)
    mean = mel.mean(0)
    mel = torch.from_numpy(mean + (mel - mean) * rng.uniform(*_CONTRAST) + _line(n_mels, rng))
    return _masked(mel, rng) if rng.random() < 0.6 else mel


def plain(samples: np.ndarray, n_mels: int) -> Tensor:
    """The utterance as it is, if no longer than LONGEST, filled up to a multiple of QUANTUM."""
    x = samples.astype(np.float32) / 2**15
    if len(x) > LONGEST * RATE:
        x = _faster(x, len(x) / (LONGEST * RATE))
    return log_mel(np.pad(x, (0, -len(x) % QUANTUM)), n_mels)


def _faster(x: np.ndarray, speed: float) -> np.ndarray:
    return np.interp(np.arange(0, len(x) - 1, speed), np.arange(len(x)), x).astype(np.float32)


def _padded(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    before, after = (int(rng.random() * _EDGE * RATE) for _ in range(2))
    after += -(before + len(x) + after) % QUANTUM
    return np.pad(x, (before, after))


def _in_a_room(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Echoes that die away within 0.05 to 0.35 s, weaker than the direct sound."""
    decay = np.exp(-np.arange(int(0.3 * RATE)) / (RATE * rng.uniform(0.01, 0.06)))
    echoes = rng.standard_normal(len(decay)) * decay
    echoes *= rng.uniform(0.2, 0.9) / np.sqrt(np.sum(echoes**2))
    echoes[0] = 1.0
    size = len(x) + len(echoes)
    spectrum = np.fft.rfft(x, size) * np.fft.rfft(echoes, size)
    return np.fft.irfft(spectrum, size)[: len(x)].astype(np.float32)


def _noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Of power 1; white, or weaker towards high frequencies."""
    white = rng.standard_normal(count).astype(np.float32)
    if rng.random() < 0.5:
        return white
    spectrum = np.fft.rfft(white)
    spectrum /= np.sqrt(1 + np.arange(len(spectrum)) / 20)
    colored = np.fft.irfft(spectrum, count).astype(np.float32)
    return colored / float(np.sqrt(np.mean(colored**2)))


def _warped(mel: np.ndarray, warp: float) -> np.ndarray:
    """Formants moved by a share of the mel scale: a longer or shorter vocal tract."""
    bins = np.arange(mel.shape[1])
    source = np.clip(bins * (1 + warp), 0, mel.shape[1] - 1)
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, mel.shape[1] - 1)
    part = (source - low).astype(np.float32)
    return mel[:, low] * (1 - part) + mel[:, high] * part


def _line(n_mels: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth frequency response, up to about 20 dB."""
    at = np.linspace(0, n_mels - 1, 6)
    curve = np.interp(np.arange(n_mels), at, rng.normal(0, 0.12, len(at)))
    return curve.astype(np.float32)


def _masked(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Two bands and two stretches at their mean (SpecAugment)."""
    mean = mel.mean()
    for axis, most in ((1, 10), (0, 15)):
        for _ in range(2):
            size = int(rng.random() * most)
            start = int(rng.random() * max(1, mel.shape[axis] - size))
            mel.narrow(axis, start, min(size, mel.shape[axis] - start)).fill_(mean)
    return mel
