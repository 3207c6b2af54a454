"""Filter banks of the SANM encoder: Kaldi fbank, stacked frames (LFR), normalisation (CMVN)."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ming_audio.logmel import CHUNK, RATE, signal_of, too_short
from ming_core.errors import BadCheckpoint, BadMedia

WINDOW = 400
HOP = 160
FFT = 512
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
PCM = 32_768.0
"""The reference works on the scale of 16-bit integers."""

FLOOR = torch.finfo(torch.float32).eps

STACK, STRIDE = 7, 6
"""Frames of 10 ms put together, and how many later the next ones begin."""


def fbank_features(samples: Tensor | np.ndarray, cmvn: Tensor) -> Tensor:
    """[N] float32 at 16 kHz in [-1, 1] -> [ceil(frames / 6), 560] float32, ready for the encoder.

    cmvn: [2, 560], see `read_cmvn`. Raises BadMedia for less than 400 samples.
    """
    return normalise(stack_frames(fbank(samples)), cmvn)


def fbank(samples: Tensor | np.ndarray, n_mels: int = 80) -> Tensor:
    """[N] float32 at 16 kHz in [-1, 1] -> [(N - 400) // 160 + 1, n_mels] float32, natural log.

    Raises BadMedia for less than 400 samples. Without dither, whatever a configuration says: the
    reference does the same.
    """
    signal = signal_of(samples)
    if len(signal) < WINDOW:
        raise BadMedia(too_short(len(signal), WINDOW))
    window, filters = _window(signal.device), _filters(n_mels).to(signal.device).T
    frames = (signal * PCM).unfold(0, WINDOW, HOP)
    mel = torch.cat([_power(some, window) @ filters for some in frames.split(CHUNK)])
    return mel.clamp_(min=FLOOR).log_()


def _power(frames: Tensor, window: Tensor) -> Tensor:
    """[T, 400] -> [T, 257]"""
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - PREEMPHASIS * before) * window
    return torch.fft.rfft(frames, n=FFT).abs().square()


def stack_frames(frames: Tensor) -> Tensor:
    """[T, F] -> [ceil(T / 6), 7 * F]; the first and the last frame are repeated at the ends."""
    count = -(-len(frames) // STRIDE)
    left = STACK // 2
    wanted = (
        torch.arange(count, device=frames.device)[:, None] * STRIDE
        + torch.arange(STACK, device=frames.device)
        - left
    )
    return frames[wanted.clamp(0, len(frames) - 1).to(frames.device)].flatten(1)


def normalise(features: Tensor, cmvn: Tensor) -> Tensor:
    """(features + shift) * scale, with cmvn = [shift, scale]."""
    cmvn = cmvn.to(features)
    return (features + cmvn[0]) * cmvn[1]


def released_cmvn() -> Tensor:
    """[2, 560] float32: the one that all releases share."""
    numbers = json.loads(files("ming_audio").joinpath("cmvn.json").read_text("utf-8"))
    return torch.tensor(
        [numbers["shift"], numbers["scale"]], dtype=torch.float32, device="cpu"
    ).repeat(1, STACK)


def read_cmvn(path: Path) -> Tensor:
    """[2, n] float32 from an `am.mvn` file (Kaldi nnet text). Raises BadCheckpoint."""
    try:
        lines = path.read_text("utf-8").splitlines()
        rows = [_numbers(lines, tag) for tag in ("<AddShift>", "<Rescale>")]
        return torch.tensor(rows, dtype=torch.float32, device="cpu")
    except (OSError, ValueError) as error:  # ValueError: also bad UTF-8 and rows of unequal length
        raise BadCheckpoint(
            f"{path} holds no normalisation ({error}); expected the am.mvn of the release, with "
            "one line of numbers after <AddShift> and one after <Rescale>"
        ) from error


def _numbers(lines: list[str], tag: str) -> list[float]:
    for line, following in pairwise(lines):
        if line.startswith(tag):
            return [float(word) for word in following.partition("[")[2].rstrip(" ]").split()]
    raise ValueError(f"no {tag}")


@lru_cache(maxsize=2)
def _filters(n_mels: int) -> Tensor:
    """[n_mels, 257] float32: triangles linear in mel from 20 Hz to 8 kHz; none takes the last bin.

    Computed in float32 step by step, as the reference does.
    """
    low, high = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (LOWEST_HZ, RATE / 2))
    step = (high - low) / (n_mels + 1)
    index = torch.arange(n_mels, dtype=torch.float32, device="cpu")[:, None]
    left, centre, right = (low + (index + i) * step for i in (0.0, 1.0, 2.0))
    mel = (
        1127.0
        * (
            1.0 + RATE / FFT * torch.arange(FFT // 2, dtype=torch.float32, device="cpu") / 700.0
        ).log()
    )
    rising = (mel - left) / (centre - left)
    falling = (right - mel) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return torch.nn.functional.pad(triangles, (0, 1))


@lru_cache(maxsize=2)
def _window(device: torch.device) -> Tensor:
    return torch.hamming_window(WINDOW, periodic=False, dtype=torch.float32, device=device)
