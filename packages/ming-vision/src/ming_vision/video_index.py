"""When the frames of a video are shown, and which of them are looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from ming_vision.options import VideoSampling
from ming_vision.sampling import LISTED_FPS, VideoRule


@dataclass(frozen=True)
class Index:
    """What the packets of a stream say, in ticks of the stream.

    times: when each frame is shown, ascending. keys: (shown at, where) of the frames that can be
    decoded without others, ascending; where: the time to seek to, or, if the file is `joined` of
    pieces with a clock each, the number of the packet. tick: seconds of one tick. rate: frames per
    second that the file claims. timed: whether the packets carry times at all; if not, times are
    frame numbers. mended: whether times of packets are wrong in the file, as in a joined one.
    guessed: whether the file only has the order in which frames are decoded; that in which they are
    shown is known to the decoder. start: seconds from the start of the file to the first frame.
    """

    times: list[int]
    keys: list[tuple[int, int]]
    tick: Fraction
    rate: Fraction | None
    timed: bool
    mended: bool = False
    joined: bool = False
    guessed: bool = False
    start: float = 0.0

    @cached_property
    def step(self) -> float:
        """Mean ticks from one frame to the next; 0 for a single frame."""
        return (self.times[-1] - self.times[0]) / max(1, len(self.times) - 1)

    @cached_property
    def fps(self) -> float:
        """The claimed rate, which is exact where times are rounded, unless the times differ."""
        claimed = float(self.rate or 0)
        if not self.step:
            return claimed or LISTED_FPS
        counted = 1 / (self.step * float(self.tick))
        return claimed if abs(claimed - counted) < 0.01 * counted else counted

    @cached_property
    def steady(self) -> bool:
        """Whether every frame is where a constant rate would put it, give or take half a frame."""
        even = (self.times[0] + i * self.step for i in range(len(self.times)))
        return all(abs(t - e) <= self.step / 2 for t, e in zip(self.times, even))

    @property
    def length(self) -> float:
        """Seconds from the start of the file to the end of the last frame."""
        return self.seconds(self.times[-1]) + 1 / self.fps

    def seconds(self, time: float) -> float:
        """Seconds from the start of the file to a time in ticks."""
        return self.start + (time - self.times[0]) * float(self.tick)


def chosen(
    index: Index, rule: VideoRule, sampling: VideoSampling | None
) -> tuple[list[int], list[float]]:
    """(times in ticks, seconds) of the frames to look at.

    Of variable frame rate they are those shown at evenly spaced moments.
    """
    plan = rule.plan(len(index.times), index.fps, sampling, own_times=not index.steady)
    if not index.steady:
        return _shown(index, plan.indices)
    targets = [index.times[i] for i in plan.indices]
    return targets, [index.start + second for second in plan.seconds]


def _shown(index: Index, numbers: Sequence[int]) -> tuple[list[int], list[float]]:
    """(times of frames in ticks, seconds) for numbers of evenly spaced moments.

    A frame that is still shown at a later moment is said to be at that moment.
    """
    start = index.times[0]
    targets: list[int] = []
    seconds: list[float] = []
    for number in numbers:
        moment = start + number * index.step
        shown = index.times[bisect_right(index.times, moment + 0.5) - 1]
        again = bool(targets) and targets[-1] == shown
        targets.append(shown)
        seconds.append(index.seconds(moment if again else shown))
    return targets, seconds
