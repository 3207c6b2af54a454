"""Several channels to one: mixed so that nobody in any of them is lost, or one that was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ming_audio.decoding import Block
from ming_core.errors import BadMedia
from ming_core.media import Channel
from ming_core.notes import note_to_user

LOUDEST = 4.0
"""Of floats that are meant to lie within [-1, 1]; more is another scale."""

CANCELS = 0.1
"""A mix with less than this of the power that unlike channels would give cancels itself out."""

SILENT = 1e-4
"""A channel with less than this of the power of another one has next to nothing."""


def mixed(blocks: Iterable[Block], channel: Channel, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """([N] float32, samples per second) of each block.

    channel: "mix" is the mean of all, as loud as the loudest of them; where they cancel each
    other, the louder one. name: of the sound, in errors and notes. Raises BadMedia for a channel
    that is not there and for values that are out of range.
    """
    mixer: _Mixer | None = None
    seconds = 0.0
    for block in blocks:
        samples = _unit(block, name, seconds)
        seconds += samples.shape[1] / block.rate
        if mixer is None or mixer.count != len(samples):
            mixer = _Mixer(len(samples), block.low, channel, name)
        yield mixer.mix(samples), block.rate
    if mixer is not None:
        mixer.tell()


class _Mixer:
    """Mixes sound of one number of channels; how loud each was so far decides the level."""

    def __init__(self, count: int, low: tuple[int, ...], channel: Channel, name: str) -> None:
        if channel != "mix" and int(channel) >= count:
            has = "only one channel, number 0" if count == 1 else f"the channels 0 to {count - 1}"
            raise BadMedia(f"{name} has {has}, so there is no channel {channel}")
        self.count, self._name = count, name
        self._chosen = None if channel == "mix" else int(channel)
        self._heard = [i for i in range(count) if i not in low] or list(range(count))
        self._powers = np.zeros(count)
        self._power = 0.0

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """[channels, N] -> [N] float32."""
        if self.count == 1:
            return samples[0]
        powers = np.array([np.dot(row, row) for row in samples], np.float64)
        if self._chosen is not None:
            self._powers += powers
            return samples[self._chosen]
        heard, powers = samples[self._heard], powers[self._heard]
        mean = heard.mean(0)
        power = float(np.dot(mean, mean))
        if power < CANCELS * powers.sum() / len(powers) ** 2:
            note_to_user(
                f"the channels of {self._name} cancel each other, so the louder one was heard"
            )
            return heard[powers.argmax()]
        self._powers[self._heard] += powers
        self._power += power
        if self._power:
            mean *= np.float32(np.sqrt(self._powers.max() / self._power))
        return mean

    def tell(self) -> None:
        """Note that a chosen channel may be the wrong one."""
        powers, chosen = self._powers, self._chosen
        if chosen is not None and powers[chosen] < SILENT * powers.max():
            note_to_user(
                f"channel {chosen} of {self._name} has next to no sound, but channel "
                f"{powers.argmax()} has some"
            )


def _unit(block: Block, name: str, seconds: float) -> np.ndarray:
    """Samples of any type as float32, integers divided by their full scale."""
    samples = block.samples
    if samples.dtype.kind in "iu":
        values = samples.astype(np.float32, order="C")
        values *= np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
        return values if samples.dtype.kind == "i" else values - 1
    if not samples.size or (samples.min() >= -LOUDEST and samples.max() <= LOUDEST):
        return samples.astype(np.float32, order="C", copy=False)
    if not block.exact:  # a decoder makes such values of damaged packets
        return np.nan_to_num(samples.clip(-LOUDEST, LOUDEST)).astype(np.float32)
    wrong = ~(np.abs(samples) <= LOUDEST)
    first = int(wrong.any(0).argmax())
    at = seconds + first / block.rate
    if not np.isfinite(samples).all():
        raise BadMedia(
            f"{name} has a value that is no finite number at {at:.2f} s; repair it or convert it "
            "to 16-bit wav"
        )
    value = samples[wrong[:, first].argmax(), first]
    raise BadMedia(
        f"{name} has the value {value:.6g} at {at:.2f} s, and floats must lie within [-1, 1]; "
        "divide the samples by their full scale, which is 32,768 for 16 bits"
    )
