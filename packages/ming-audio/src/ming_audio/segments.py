"""Cut long recordings at pauses into pieces that an encoder can take, and join their texts.

A sound is speech if it is louder than the noise. The level of the noise follows the signal down at
once and up slowly. Speech must be louder to begin than to go on, so that no word is cut at a quiet
sound. No model is needed; music counts as speech. If there is no pause for too long, the piece ends
at the quietest moment of its last third, and the next piece begins a little before that moment.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ming_audio.reading import RATE
from ming_core.errors import BadConfig

FRAME = RATE // 100
"""Samples of one loudness value: 10 ms."""

MAX_WORDS_PER_SECOND = 6
"""Words, or Chinese characters, that somebody can say."""


@dataclass(frozen=True)
class SegmentRule:
    """How a recording is cut; lengths in seconds, levels in decibels (0 is full scale).

    longest: most that a segment lasts. silence: a pause of this length ends one. shortest: less
    than this above the noise is a click. margin: kept before and after what was heard. overlap: how
    much before a cut through speech the next segment begins. onset, release: how far above the
    noise speech begins and stops. quietest: noise is never taken to be lower. adapt: how fast
    the level of the noise rises, per second. Raises BadConfig for rules that contradict themselves.
    """

    longest: float = 30.0
    silence: float = 0.5
    shortest: float = 0.05
    margin: float = 0.2
    overlap: float = 1.0
    onset: float = 12.0
    release: float = 6.0
    quietest: float = -75.0
    adapt: float = 6.0

    def __post_init__(self) -> None:
        if not 0 <= self.release <= self.onset:
            raise BadConfig(
                f"release of a segment rule is {self.release}; it must be 0 to onset={self.onset}"
            )
        if self.longest < 1:
            raise BadConfig(f"longest of a segment rule is {self.longest} s; it must be 1 or more")
        for name in ("silence", "shortest", "margin", "overlap"):
            if not 0 <= getattr(self, name) < self.longest / 6:
                raise BadConfig(
                    f"{name} of a segment rule is {getattr(self, name)} s; it must be 0 or more "
                    f"and less than a sixth of longest={self.longest} s"
                )


@dataclass(frozen=True, eq=False)
class Segment:
    """A piece of a recording. start, end: seconds. samples: [N] float32 at 16 kHz.

    overlap: seconds at its start that the segment before has heard, too; 0 after a pause.
    """

    start: float
    end: float
    samples: np.ndarray
    overlap: float = 0.0


def segments(blocks: Iterable[np.ndarray], rule: SegmentRule | None = None) -> Iterator[Segment]:
    """Yield the pieces of a recording in which somebody speaks, in order.

    blocks: [N] float32 at 16 kHz, as `stream_audio` gives them. Their sizes do not change the
    result. Little more than one block and one segment is in memory.
    """
    cutter = _Cutter(rule or SegmentRule())
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


class _Cutter:
    """Turns loudness into segments. Positions are numbers of frames since the start."""

    def __init__(self, rule: SegmentRule) -> None:
        self.rule = rule
        self.samples = np.zeros(0, np.float32)  # what may still be put out, from frame `kept` on
        self.kept = 0
        # (level, that of the noise) of the frames from `kept` on that were judged
        self.loudness: list[tuple[float, float]] = []
        self.floor = rule.quietest
        self.begin: int | None = None  # of the segment that is open, margin included
        self.overlap = 0.0
        self.loud = 0  # frames above the onset in a row, while none is open
        self.heard = 0  # where the speech of the open segment ended so far
        self.closed = 0  # end of the last segment: no margin reaches behind it

    def feed(self, block: np.ndarray) -> Iterator[Segment]:
        self.samples = np.concatenate([self.samples, block])
        first = len(self.loudness)
        whole = len(self.samples) // FRAME
        frames = self.samples[first * FRAME : whole * FRAME].reshape(-1, FRAME)
        # Without its mean: the offset of a bad microphone is no sound.
        power = np.square(frames - frames.mean(1, keepdims=True), dtype=np.float64).mean(1)
        levels = 10 * np.log10(np.maximum(power, 1e-20))
        at = self.kept + first
        for level in levels.tolist():
            risen = self.floor + self.rule.adapt * FRAME / RATE
            self.floor = max(self.rule.quietest, min(level, risen))
            self.loudness.append((level, self.floor))
            segment = self._judge(at, level - self.floor)
            at += 1
            if segment is not None:
                yield segment
        self._forget(at)

    def finish(self) -> Iterator[Segment]:
        if self.begin is not None:
            yield self._put_out(self._end_of_speech(len(self.samples) / FRAME + self.kept))

    def _judge(self, at: int, above: float) -> Segment | None:
        """Take in one frame; the segment that ends with it, if one does."""
        rule = self.rule
        if self.begin is None:
            self.loud = self.loud + 1 if above >= rule.onset else 0
            if self.loud >= max(1, _frames(rule.shortest)):
                start = at + 1 - self.loud
                self.begin = max(self.closed, start - _frames(rule.margin))
                self.heard, self.loud = at + 1, 0
            return None
        if above >= rule.release:
            self.heard = at + 1
        elif at + 1 - self.heard >= _frames(rule.silence):
            return self._put_out(self._end_of_speech(at + 1))
        if at + 1 - self.begin >= _frames(rule.longest):
            return self._split(at + 1)
        return None

    def _end_of_speech(self, known: float) -> float:
        return min(self.heard + _frames(self.rule.margin), known)

    def _split(self, until: int) -> Segment:
        """End the open segment within its last third and open the next one there."""
        assert self.begin is not None
        third = (until - self.begin) // 3
        # Over 50 ms: a single frame between two periods of a low voice is no pause.
        levels, floors = np.array(self.loudness[until - third - self.kept :]).T
        smooth = sliding_window_view(levels, 5).mean(1)
        quietest = int(smooth.argmin())
        cut = until - third + quietest + 2
        segment = self._put_out(cut + 1)
        pause = smooth[quietest] - floors[quietest + 4] < self.rule.release
        again = 0 if pause else _frames(self.rule.overlap)
        if self.heard > cut:  # otherwise the speech was over, and the cut lies in the silence
            self.begin, self.overlap = cut + 1 - again, again * FRAME / RATE
        return segment

    def _put_out(self, end: float) -> Segment:
        """The open segment up to frame `end`; afterwards none is open."""
        assert self.begin is not None
        first, last = (int((frame - self.kept) * FRAME) for frame in (self.begin, end))
        samples = self.samples[first:last].copy()
        start = self.begin * FRAME
        segment = Segment(start / RATE, (start + len(samples)) / RATE, samples, self.overlap)
        self.begin, self.overlap, self.closed = None, 0.0, math.ceil(end)
        return segment

    def _forget(self, at: int) -> None:
        """Drop what no later segment can need."""
        rule = self.rule
        back = _frames(rule.margin) + _frames(rule.shortest) + 1
        needed = max(self.kept, at - back if self.begin is None else self.begin)
        self.samples = self.samples[(needed - self.kept) * FRAME :].copy()
        del self.loudness[: needed - self.kept]
        self.kept = needed


def _frames(seconds: float) -> int:
    return round(seconds * RATE / FRAME)


def stitch(texts: Sequence[str], overlaps: Sequence[float]) -> str:
    """Join the texts of the segments of a recording. Words that were heard twice are written once.

    overlaps: that of each segment, as in `Segment`. Where two segments overlap, they are joined at
    the longest run of words that both have. Words outside of it were cut, so they are left out.
    Case and punctuation do not count. Without such a run nothing is left out.
    """
    return "".join(shares(texts, overlaps)).strip()


def shares(texts: Sequence[str], overlaps: Sequence[float]) -> list[str]:
    """What of each segment `stitch` writes; a share begins with the space before it, if any."""
    found: list[list[str]] = []
    last = 0  # the last segment with words
    for at, (text, overlap) in enumerate(zip(texts, overlaps, strict=True)):
        before, new = found[last] if found else [], tokens_of(text.strip())
        if before and new and not (is_wide(before[-1][-1]) or is_wide(new[0][0])):
            new[0] = " " + new[0]
        torn, used = _seam(before, new, math.ceil(overlap * MAX_WORDS_PER_SECOND))
        del before[len(before) - torn :]
        found.append(new[used:])
        last = at if found[at] else last
    return ["".join(tokens) for tokens in found]


def _seam(before: list[str], after: list[str], most: int) -> tuple[int, int]:
    """How many words at the end of `before` and at the start of `after` are to fall away."""
    tail = [bare(token) for token in before[len(before) - min(most, len(before)) :]]
    head = [bare(token) for token in after[:most]]
    runs = []
    for i in range(len(tail)):
        for j in range(len(head)):
            size = sum(
                1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tail[i:], head[j:]))
            )
            outside = len(tail) - i - size + j
            # A word or two are torn; a lone "the" far from the seam proves nothing.
            if size and outside <= size + 1:
                runs.append((size, -outside, len(tail) - i - size, j + size))
    if not runs:
        return 0, 0
    _, _, torn, used = max(runs)
    return torn, used


def tokens_of(text: str) -> list[str]:
    """Words with the space before them; characters that are written without spaces one by one."""
    tokens: list[str] = []
    for character in text:
        before = tokens[-1][-1] if tokens else " "
        torn = (is_wide(character) or is_wide(before)) and not before.isspace()
        if not tokens or character.isspace() or torn:
            tokens.append(character)
        else:
            tokens[-1] += character
    return [token for token in tokens if not token.isspace()]


def is_wide(character: str) -> bool:
    """Whether it is of a script that puts no space between words."""
    return unicodedata.east_asian_width(character) in "WF"


def bare(token: str) -> str:
    """What of a word is compared. Pure punctuation is compared as it is."""
    letters = "".join(c for c in token.casefold() if c.isalnum() or unicodedata.combining(c))
    return letters or token.strip()
