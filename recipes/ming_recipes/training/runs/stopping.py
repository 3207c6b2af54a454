"""What a training does when it is asked to stop: Ctrl-C, SIGTERM, a terminal that is closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(SystemExit):
    """Ends the process with the exit code of a signal: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Stop:
    """asked: the number of the signal that asked for it, 0 before. patient: somebody looks at
    `asked` and stops as soon as the state is saved; otherwise, and at a second signal, Stopped is
    raised at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.patient = False
        self.answered: tuple[int, ...] = ()

    def answer(self) -> None:
        """Answer the signals from now on, also those that somebody else has taken since."""
        for number in self.answered:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = bool(self.asked), number
        if again or not self.patient:
            raise Stopped(number)


@contextmanager
def answering_signals() -> Iterator[Stop]:
    """Lets a `Stop` answer the signals. One that is ignored, as under nohup, stays so."""
    stop = Stop()
    old = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is threading.main_thread():  # no other one may answer signals
        stop.answered = tuple(n for n, handler in old.items() if handler is not signal.SIG_IGN)
    stop.answer()
    try:
        yield stop
    finally:
        for number in stop.answered:
            signal.signal(number, old[number])
