"""The resampler against the formula of the reference, and block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ming_audio.resampling import Resampler, resample


def by_formula(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """All taps of all phases as one convolution: torchaudio's way, which needs more memory."""
    g = math.gcd(rate, target)
    o, n = rate // g, target // g
    base = 0.99 * min(o, n)
    width = math.ceil(6 * o / base)
    phase = torch.arange(0, -n, -1)[:, None, None] / n
    t = phase + torch.arange(-width, width + o, dtype=torch.float64)[None, None] / o
    t = (t * base).clamp(-6, 6)
    kernel = base / o * torch.sinc(t) * torch.cos(math.pi * t / 12) ** 2
    padded = torch.nn.functional.pad(torch.from_numpy(samples), (width, width + o))
    out = torch.nn.functional.conv1d(padded[None, None], kernel.float(), stride=o)[0]
    return out.T.flatten()[: math.ceil(target * len(samples) / rate)].numpy()


@pytest.mark.parametrize(
    ("rate", "target"), [(8_000, 16_000), (44_100, 16_000), (48_000, 16_000), (16_000, 22_050)]
)
def test_equals_the_formula(rate: int, target: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.3, 5_001).astype(np.float32)
    ours, wanted = resample(samples, rate, target), by_formula(samples, rate, target)
    assert ours.shape == wanted.shape
    assert np.abs(ours - wanted).max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 900), max_size=8),
    rates=st.sampled_from([(8_000, 16_000), (44_100, 16_000), (192_000, 16_000), (7_001, 16_000)]),
)
def test_blocks_make_no_difference(sizes: list[int], rates: tuple[int, int]) -> None:
    samples = np.random.default_rng(0).normal(0, 0.3, sum(sizes)).astype(np.float32)
    resampler = Resampler(*rates)
    ends = np.cumsum(sizes)
    pieces = [resampler.feed(samples[e - s : e]) for s, e in zip(sizes, ends)]
    joined = np.concatenate([*pieces, resampler.flush()])
    assert len(joined) == math.ceil(sum(sizes) * rates[1] / rates[0])
    assert np.array_equal(joined, resample(samples, *rates))


def test_the_same_rate_changes_nothing() -> None:
    samples = np.arange(10, dtype=np.float32)
    assert np.array_equal(resample(samples, 16_000, 16_000), samples)
