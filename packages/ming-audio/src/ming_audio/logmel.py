"""Log-mel spectrogram of Whisper: 100 frames per second, natural length, 80 or 128 bins."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ming_core.errors import BadMedia

RATE = 16_000
WINDOW = 400
HOP = 160
SHORTEST = WINDOW // 2 + 1
"""Samples; the signal is mirrored at both ends by half a window."""

CHUNK = 512
"""Frames transformed at a time: their spectra stay in the processor's cache."""

_LINEAR_HZ = 1000.0
"""Slaney's scale is linear below (3 mel per 200 Hz) and logarithmic above."""


def log_mel(samples: Tensor | np.ndarray, n_mels: int = 128) -> Tensor:
    """[N] float32 at 16 kHz in [-1, 1] -> [N // 160, n_mels] float32.

    Powers below a 10**-8 of the loudest of the whole clip are raised to it; a silent clip is -1.5
    everywhere. Raises BadMedia for less than 201 samples.
    """
    signal = signal_of(samples)
    if len(signal) < SHORTEST:
        raise BadMedia(too_short(len(signal), SHORTEST))
    half = WINDOW // 2
    padded = functional.pad(signal[None], (half, half), mode="reflect")[0]
    window, filters = _window(signal.device), mel_filters(n_mels).to(signal.device).T
    frames = padded.unfold(0, WINDOW, HOP)[: len(signal) // HOP]
    # Bins last: the power is one plain matrix product away from the mels.
    mel = torch.cat([_power(some * window) @ filters for some in frames.split(CHUNK)])
    log = mel.clamp_(min=1e-10).log10_()
    return log.clamp_(min=log.max() - 8.0).add_(4.0).div_(4.0)


def _power(frames: Tensor) -> Tensor:
    """[T, 400] -> [T, 201]"""
    return torch.view_as_real(torch.fft.rfft(frames)).square_().sum(-1)


def signal_of(samples: Tensor | np.ndarray) -> Tensor:
    """[N] float32 where the samples are; an array is on the CPU, whatever the default device."""
    found = samples if isinstance(samples, Tensor) else torch.from_numpy(samples)
    return found.float()


def too_short(samples: int, least: int) -> str:
    """The sentence of BadMedia for a clip that has not even one frame."""
    return (
        f"the sound has {samples} samples ({1000 * samples / RATE:.0f} ms) at 16 kHz; at least "
        f"{least} are needed, so record longer or put silence behind it"
    )


@lru_cache(maxsize=2)
def mel_filters(n_mels: int) -> Tensor:
    """[n_mels, 201] float32: triangles of area 1 on Slaney's mel scale from 0 to 8000 Hz."""
    edges = _hertz(np.linspace(0.0, _mel(RATE / 2), n_mels + 2))
    bins = np.linspace(0.0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    areas = 2.0 / (edges[2:] - edges[:-2])
    return torch.from_numpy((triangles * areas[:, None]).astype(np.float32))


def _mel(hertz: float) -> float:
    linear = min(hertz, _LINEAR_HZ) * 3 / 200
    return linear + 27 * math.log(max(hertz / _LINEAR_HZ, 1.0)) / math.log(6.4)


def _hertz(mel: np.ndarray) -> np.ndarray:
    knee = _LINEAR_HZ * 3 / 200
    above = np.exp((np.maximum(mel, knee) - knee) * math.log(6.4) / 27)
    return np.minimum(mel, knee) * 200 / 3 * above


@lru_cache(maxsize=2)
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(WINDOW, dtype=torch.float32, device=device)
