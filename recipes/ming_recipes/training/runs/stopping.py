"""What a training does when it is asked to stop: Ctrl-C, SIGTERM, a terminal that is closed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
GRACE = 8.0
"""Seconds in which a process that must stop at once may still tidy up."""


class Stopped(SystemExit):
    """Ends the process with the exit code of a signal: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Stop:
    """asked: the number of the signal that asked for it, 0 before. patient: somebody looks at
    `asked` and stops as soon as the state is saved; otherwise, and at a second signal, Stopped is
    raised at once. last_act: what is done if the process has to be ended from outside of its main
    thread."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.asked = 0
        self.patient = False
        self.answered: tuple[int, ...] = ()
        self.last_act: Callable[[], None] = lambda: None

    def answer(self) -> None:
        """Answer the signals from now on, also those that somebody else has taken since."""
        for number in self.answered:
            signal.signal(number, self._note)

    def end(self, code: int) -> None:
        """End the process from any thread, whatever its main thread waits for."""
        self.last_act()
        os._exit(code)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # one that was forked, which has nothing to save
            os._exit(128 + number)
        again, self.asked = bool(self.asked), number
        if again or not self.patient:
            raise Stopped(number)


def leave_signals(worker: int = 0) -> None:
    """Let a process that makes batches ignore what a terminal or a scheduler sends to all of them.

    `worker_init_fn` of a DataLoader. Otherwise it would end before the step of the training, which
    needs its batches. It ends when the loader does, or when the training is gone: see
    `ending_makers`.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if hasattr(os, "register_at_fork"):
    # What a forked process hears is no signal of this one.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextmanager
def ending_makers() -> Iterator[None]:
    """Ends the processes that make batches if the block fails.

    An error keeps their loader alive, so they wait for work. Python would end them with SIGTERM,
    which they leave, and wait for them for ever.
    """
    before = active_children()
    try:
        yield
    except BaseException:
        makers = [one for one in active_children() if one.daemon and one not in before]
        if makers and hasattr(signal, "SIGCHLD"):  # Windows has no signals that are left
            # Torch would raise an error of its own for each that ends.
            hears = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in makers:
                one.kill()
                one.join()
            signal.signal(signal.SIGCHLD, hears)
        raise


@contextmanager
def answering_signals() -> Iterator[Stop]:
    """Lets a `Stop` answer the signals. One that is ignored, as under nohup, stays so.

    Python runs its handlers between two steps of the main thread, and that may wait for another
    process for ever. So a second thread hears of signals, too. It ends the process if a signal
    that must end it at once has not done so after `GRACE` seconds.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # no other may answer signals
        yield stop
        return
    old = {number: signal.getsignal(number) for number in SIGNALS}
    stop.answered = tuple(n for n, handler in old.items() if handler is not signal.SIG_IGN)
    stop.answer()
    heard, told = socket.socketpair()
    told.setblocking(False)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_listen, args=(heard, stop, ended), daemon=True).start()
    try:
        with ending_makers():
            yield stop
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        told.close()
        for number in stop.answered:
            signal.signal(number, old[number])


def _listen(heard: socket.socket, stop: Stop, ended: threading.Event) -> None:
    """Hear of each signal, and end the process if it is stuck."""
    first = True
    with heard:
        while numbers := heard.recv(1):
            (number,) = numbers
            if number not in stop.answered:
                continue
            at_once, first = not (first and stop.patient), False
            if at_once and not ended.wait(GRACE):
                stop.end(128 + number)
