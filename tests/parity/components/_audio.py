"""Recordings of golden cases as the front ends take them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ming_audio.reading import open_audio
from ming_core.testing import GoldenCase


def mono16k(case: GoldenCase) -> Iterator[tuple[int, Tensor]]:
    """(number, [N] float32 at 16 kHz) of every wave; integer PCM is stored as int64."""
    for i, wave in enumerate(case.config["waves"]):
        samples = case.inputs[f"waveform_{i}"].cpu().numpy().astype(np.dtype(wave["dtype"]))
        # The releases hear the first channel alone.
        sound = open_audio((samples, wave["sample_rate"]), channel=0)
        yield i, torch.from_numpy(sound.samples).to(case.device)
