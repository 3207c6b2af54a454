"""Sounds of any kind as one channel of float32 at the wanted rate, whole or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ming_audio.decoding import BLOCK, Block, claimed_seconds, decode
from ming_audio.mixing import mixed
from ming_audio.resampling import Resampler
from ming_core.errors import BadMedia
from ming_core.media import Channel, checked_channel
from ming_core.media.files import MediaFile, MediaSource

RATE = 16_000
"""Samples per second of every encoder of the family."""

RATES = range(1_000, 1_000_001)
MAX_CHANNELS = 64
"""Of an array; more is a matrix lying on its side."""

MAX_HOURS = 4
"""Of a sound that is read as a whole: a gigabyte."""


@dataclass(frozen=True, eq=False)
class Sound:
    """One channel. samples: [N] float32, usually within [-1, 1]. rate: samples per second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def open_audio(source: Any, rate: int = RATE, *, channel: Channel = "mix") -> Sound:
    """The whole of a sound at `rate`.

    source: path or `file://` URI of a sound or of a video, bytes of such a file, a `Sound`, an
    array or tensor [N] or [channels, N] at 16 kHz, or a pair (array, its rate). Integers are
    divided by their full scale; unsigned bytes have their silence at 128.
    channel: "mix" for all channels, as loud as the loudest of them, or the number of one, from 0.

    Time is that of the file: a sound that begins later than its file, and packets that are lost,
    leave silence. A file gives all that can be decoded; a recording that breaks off says so in a
    note. Of several tracks the default one is read, with a note.

    Raises BadMedia for what cannot be decoded, a sound without samples, a channel that is not
    there, values that are not finite or far out of range, and more than 4 hours.
    """
    pieces, count = [], 0
    for piece in _resampled(source, rate, channel):
        pieces.append(piece)
        count += len(piece)
        if count > MAX_HOURS * 3600 * rate:
            raise BadMedia(
                f"the sound is longer than the {MAX_HOURS} h that are read as a whole; read it "
                "in blocks with stream_audio, or transcribe it"
            )
    return Sound(np.concatenate(pieces), rate)


def stream_audio(
    source: Any, rate: int = RATE, seconds: float = 30.0, *, channel: Channel = "mix"
) -> Iterator[np.ndarray]:
    """What `open_audio` gives in blocks of so many seconds; only the last one may be shorter.

    Memory does not grow with the length of the sound. Raises BadMedia where it meets the fault.
    """
    size = max(1, round(seconds * rate))
    waiting: list[np.ndarray] = []
    count = 0
    for piece in _resampled(source, rate, channel):
        waiting.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(waiting)
            cut = count - count % size
            yield from (joined[i : i + size] for i in range(0, cut, size))
            waiting, count = [joined[cut:].copy()], count - cut
    if count:
        yield np.concatenate(waiting)


def audio_seconds(source: Any) -> float | None:
    """How long a sound claims to be, without decoding it; None where its file does not say.

    Raises BadMedia for what cannot be opened.
    """
    if isinstance(source, MediaSource):
        return claimed_seconds(MediaFile.find(source, "sound"))
    samples, rate = _array(source)
    return samples.shape[1] / rate


def count_channels(source: Any) -> int:
    """How many channels a sound begins with. Raises BadMedia."""
    _, blocks = _blocks(source)
    return next((len(block.samples) for block in blocks), 1)


def _resampled(source: Any, rate: int, channel: Channel) -> Iterator[np.ndarray]:
    """Pieces of any size at `rate`, at least one sample in all."""
    checked_channel(channel)
    name, blocks = _blocks(source)
    resampler, of = Resampler(rate, rate), rate
    read = 0
    for samples, own in mixed(_with_rate(blocks, name), channel, name):
        if own != of:
            yield resampler.flush()
            resampler, of = Resampler(own, rate), own
        read += len(samples)
        yield resampler.feed(samples)
    if not read:
        raise BadMedia(f"{name} has no samples; give a sound that lasts a moment")
    yield resampler.flush()


def _blocks(source: Any) -> tuple[str, Iterator[Block]]:
    """How errors name a sound, and its blocks."""
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "sound")
        return file.name, decode(file)
    samples, rate = _array(source)
    size = max(1, BLOCK // len(samples))
    pieces = (samples[:, i : i + size] for i in range(0, samples.shape[1], size))
    return "the sound", (Block(piece, rate) for piece in pieces)


def _with_rate(blocks: Iterator[Block], name: str) -> Iterator[Block]:
    for block in blocks:
        if block.rate not in RATES:
            raise BadMedia(
                f"{name} claims {block.rate} samples per second; {RATES[0]:,} to {RATES[-1]:,} are "
                "allowed, so give its true rate"
            )
        yield block


def _array(source: Any) -> tuple[np.ndarray, int]:
    """([channels, N], samples per second) of what is in memory. Raises BadMedia."""
    if isinstance(source, Sound):
        return source.samples[None], source.rate
    samples: Any
    samples, rate = source if isinstance(source, tuple) and len(source) == 2 else (source, RATE)
    if hasattr(samples, "is_floating_point"):  # a tensor, without importing its library
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray) or not isinstance(rate, int | np.integer):
        raise BadMedia(
            f"cannot read a sound from {type(source).__name__}; give the path of a file, its "
            "bytes, an array or a pair (array, samples per second)"
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < len(samples) <= MAX_CHANNELS):
        raise BadMedia(
            f"an array of a sound must be [samples] or [channels, samples] with 1 to "
            f"{MAX_CHANNELS} channels, not {list(samples.shape)}; transpose it first"
        )
    if samples.dtype.kind not in "fi" and samples.dtype != np.uint8:
        raise BadMedia(
            f"an array of a sound must hold floats in [-1, 1] or signed integers, not "
            f"{samples.dtype}; convert it first"
        )
    return samples if samples.ndim == 2 else samples[None], int(rate)
