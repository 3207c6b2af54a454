"""Counts that are known before anything is computed, against what is computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ming_audio.fbank import fbank, stack_frames
from ming_audio.lengths import (
    convolved,
    fbank_frames,
    mel_frames,
    resampled,
    stacked_frames,
    whisper_frames,
)
from ming_audio.logmel import log_mel
from ming_audio.packing import packed_conv


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 1599, 1600, 1760, 16_000])
def test_front_ends_give_as_many_frames_as_promised(samples: int) -> None:
    noise = torch.randn(samples) / 10
    assert mel_frames(samples) == len(log_mel(noise))
    frames = fbank(noise)
    assert fbank_frames(samples) == len(frames)
    assert stacked_frames(len(frames)) == len(stack_frames(frames))


def test_two_seconds() -> None:
    assert (mel_frames(32_000), whisper_frames(200), convolved(100, 3, 2)) == (200, 100, 50)
    assert (fbank_frames(32_000), stacked_frames(198), convolved(33, 1, 1)) == (198, 33, 33)
    assert fbank_frames(399) == 0
    assert resampled(44_101, 44_100) == 16_001


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_packed_convolution_is_that_of_each_sound_alone(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(4, 6, kernel, stride, padding=kernel // 2)
    lengths = [9, kernel, 2 * stride, 31, 5]
    x = torch.randn(sum(lengths), 4, requires_grad=True)
    alone = [conv(part.T[None])[0].T for part in x.split(lengths)]
    assert [len(part) for part in alone] == [convolved(n, kernel, stride) for n in lengths]
    packed = packed_conv(conv, x, lengths)
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(packed)
    (expected,) = torch.autograd.grad((torch.cat(alone) * weight).sum(), x)
    (actual,) = torch.autograd.grad((packed * weight).sum(), x)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
