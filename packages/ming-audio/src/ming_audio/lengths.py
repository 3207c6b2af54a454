"""How many frames and tokens a sound becomes: every length rule, each in one place.

All counts are whole numbers, known before anything is computed.
"""

from __future__ import annotations

from ming_audio import fbank, logmel

RATE = logmel.RATE
"""Samples per second that every released front end works on."""


def resampled(samples: int, rate: int, to: int = RATE) -> int:
    """Samples after resampling from `rate` to `to` per second."""
    return -(-samples * to // rate)


def mel_frames(samples: int) -> int:
    """Frames of the log-mel of samples at 16 kHz; the last frame of the transform is dropped."""
    return samples // logmel.HOP


def fbank_frames(samples: int) -> int:
    """Whole fbank windows in samples at 16 kHz, before stacking."""
    return max(0, (samples - fbank.WINDOW) // fbank.HOP + 1)


def stacked_frames(frames: int) -> int:
    """Frames after stacking fbank frames; the last one repeats what is missing."""
    return -(-frames // fbank.STRIDE)


def convolved(frames: int, kernel: int, stride: int) -> int:
    """Outputs of a convolution that pads kernel // 2 zeros on either side."""
    return (frames - kernel + 2 * (kernel // 2)) // stride + 1


def whisper_frames(mel: int) -> int:
    """Hidden states of the Whisper tower for mel frames: its second convolution halves them."""
    return convolved(mel, 3, 2)
