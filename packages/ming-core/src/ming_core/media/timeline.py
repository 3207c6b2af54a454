"""One clock for a recording whose own clock jumps or begins anew.

Recordings joined with `cat`, streams cut and glued by a broadcaster, a counter that runs over: the
times of such a file fall, or leap by hours. Its pieces belong one behind the other, in the order in
which they lie in the file. A pause is something else: a call in which nothing came for 20 seconds
has a hole of 20 seconds, and what follows keeps its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

LONGEST_PAUSE = 3600.0
"""Seconds by which times may leap and still be a pause."""

LONGEST_OF_BROADCASTS = 60.0
"""The same where the format lets clocks jump, as MPEG-TS does (`Flags.ts_discont` of FFmpeg)."""

LARGEST_FALL = 0.1
"""Seconds by which the time of a key packet may fall: decoding times are guessed now and then."""

MOST_REORDERED = 20
"""Packets between two key packets that may come in another order than their times."""


@dataclass
class Timeline:
    """Puts the times of one stream, packet by packet in the order of the file, on one clock.

    tick: seconds of one tick. pause: LONGEST_PAUSE, or LONGEST_OF_BROADCASTS. offset: ticks that
    are added now. pieces: how many clocks there were so far.
    """

    tick: Fraction
    pause: float = LONGEST_PAUSE
    offset: int = 0
    pieces: int = 0
    _last: int = 0
    _step: int = 0
    _end: int = 0

    def __post_init__(self) -> None:
        self._longest, self._fall = int(self.pause / self.tick), int(LARGEST_FALL / self.tick)

    def offset_at(self, time: int | None, shown: int | None, duration: int, key: bool) -> int:
        """Ticks to add to the times of the next packet.

        time, shown: when it is decoded and when what it holds is to be seen or heard. duration: how
        long, 0 if that is not known. key: whether it can be decoded without others, as all sound.
        Nothing is added to the first packet: it is where the clock stands. Without a time to decode
        it at, a packet belongs to the one before.
        """
        if time is None:
            return self.offset
        moved = time - self._last
        shown = time if shown is None else shown
        if not self.pieces:
            self.pieces, self._end = 1, shown
        elif moved > self._longest or self._falls(moved, key):
            self.pieces += 1
            # In the middle of pictures that need each other, decoding goes on as if nothing were.
            self.offset = self._end - shown if key else self.offset + self._step - moved
        elif moved > 0:
            self._step = moved
        self._step = duration or self._step
        self._last = time
        self._end = max(self._end, shown + self.offset + self._step)
        return self.offset

    def _falls(self, moved: int, key: bool) -> bool:
        return -moved > (self._fall if key else MOST_REORDERED * self._step)
