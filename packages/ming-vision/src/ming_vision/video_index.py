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
    """What the packets of a stream say. Times are in ticks of the stream.

    Attributes:
        times: When each frame is shown, ascending.
        keys: (time, place) of each frame that can be decoded without others, ascending. The place
            is the time to seek to. In a file that is `joined` of pieces with clocks of their own,
            it is the number of the packet.
        tick: Seconds of one tick.
        rate: Frames per second, as the file claims.
        timed: Whether packets have times. If not, the times are numbers of frames.
        mended: Whether times of packets are wrong in the file, as in a joined one.
        guessed: Whether the file only has the order in which frames are decoded. The decoder then
            knows the order in which they are shown.
        start: Seconds from the start of the file to the first frame.
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
