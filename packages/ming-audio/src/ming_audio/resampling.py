"""Windowed-sinc resampling as the reference does it, of whole signals or block by block."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

ZEROS = 6
"""Zero crossings of the sinc on each side of its centre."""

ROLLOFF = 0.99
"""Cut-off as a share of the lower Nyquist frequency."""

CHUNK = 1 << 14
"""Samples put out at a time where their taps are gathered, which needs memory."""

KERNEL = 1 << 10
"""Phases whose weights are made at a time."""

MANY = 128
"""Periods from which on the outputs of a phase are worth a step of their own."""


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """[N] float32 at `rate` -> [ceil(N * target / rate)] float32 at `target`."""
    resampler = Resampler(rate, target)
    return np.concatenate([resampler.feed(samples), resampler.flush()])


class Resampler:
    """Resamples a signal that arrives in blocks; their sizes make no difference to the result.

    With o / n = rate / target in lowest terms, output j * n + p is centred on input j * o + p * o/n
    and weighs the inputs around it by a sinc under a squared cosine (torchaudio's default).
    """

    def __init__(self, rate: int, target: int) -> None:
        divisor = math.gcd(rate, target)
        self._in, self._out = rate // divisor, target // divisor
        self._starts, self._weights = _kernel(self._in, self._out)
        self._margin = -int(self._starts[0])
        self._fed = self._given = 0
        self._dropped = -self._margin  # inputs before the buffer; the signal begins in silence
        self._buffer = np.zeros(self._margin, np.float32)

    def feed(self, block: np.ndarray) -> np.ndarray:
        """What can be put out once these inputs [N] float32 are known."""
        self._fed += len(block)
        if self._in == self._out:
            return block
        self._buffer = np.concatenate([self._buffer, block])
        return self._put_out(self._known(self._fed))

    def flush(self) -> np.ndarray:
        """The rest, with silence after the end."""
        if self._in == self._out:
            return np.zeros(0, np.float32)
        total = -(-self._fed * self._out // self._in)
        tail = self._weights.shape[1] + self._in
        self._buffer = np.concatenate([self._buffer, np.zeros(tail, np.float32)])
        return self._put_out(total)

    def _known(self, inputs: int) -> int:
        """How many outputs depend on the first `inputs` inputs only (a few less may be said)."""
        reach = self._weights.shape[1] - self._margin + 1
        return max(self._given, (inputs - reach) * self._out // self._in)

    def _put_out(self, until: int) -> np.ndarray:
        put_out = np.zeros(until - self._given, np.float32)
        if len(put_out) >= MANY * self._out:
            self._by_phase(put_out)
        elif len(put_out):
            self._by_window(put_out)
        self._given = until
        period, phase = divmod(self._given, self._out)
        # The next outputs begin here at the earliest: starts rise with the phase.
        spare = max(0, period * self._in + int(self._starts[phase]) - self._dropped)
        spare = min(spare, len(self._buffer))
        self._buffer, self._dropped = self._buffer[spare:], self._dropped + spare
        return put_out

    def _by_phase(self, put_out: np.ndarray) -> None:
        """Of many periods: all outputs of a phase at once, which lie evenly in the buffer."""
        step, taps = self._buffer.strides[0], self._weights.shape[1]
        for phase, (start, weights) in enumerate(zip(self._starts.tolist(), self._weights)):
            period = -(-(self._given - phase) // self._out)
            own = put_out[period * self._out + phase - self._given :: self._out]
            windows = np.lib.stride_tricks.as_strided(
                self._buffer[period * self._in + start - self._dropped :],
                (len(own), taps),
                (self._in * step, step),
                writeable=False,
            )
            np.einsum("nt,t->n", windows, weights, out=own)

    def _by_window(self, put_out: np.ndarray) -> None:
        """Of few periods with many phases: one output after another."""
        windows = np.lib.stride_tricks.sliding_window_view(self._buffer, self._weights.shape[1])
        for first in range(0, len(put_out), CHUNK):
            own = put_out[first : first + CHUNK]
            period, phase = np.divmod(
                np.arange(self._given + first, self._given + first + len(own)), self._out
            )
            starts = period * self._in + self._starts[phase] - self._dropped
            np.einsum("nt,nt->n", windows[starts], self._weights[phase], out=own)


@lru_cache(maxsize=4)
def _kernel(o: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(first input [n], weights [n, taps]) of each phase; inputs count from that of phase 0.

    The reference has all taps from -W to W + o for every phase; nearly all are zero, so only those
    under the window are kept. Its phases are rounded to float32 before anything else, and so here.
    """
    cutoff = ROLLOFF * min(o, n)
    width = math.ceil(ZEROS * o / cutoff)
    phases = -np.arange(n, dtype=np.float32) / np.float32(n)
    starts = np.arange(n, dtype=np.int64) * o // n - width
    weights = np.empty((n, 2 * width + 2), np.float32)
    for first in range(0, n, KERNEL):  # odd rates have many phases
        some = slice(first, first + KERNEL)
        taps = starts[some, None] + np.arange(2 * width + 2)
        t = np.clip(cutoff * (phases[some].astype(np.float64)[:, None] + taps / o), -ZEROS, ZEROS)
        weights[some] = cutoff / o * np.sinc(t) * np.cos(np.pi * t / (2 * ZEROS)) ** 2
    return starts, weights
