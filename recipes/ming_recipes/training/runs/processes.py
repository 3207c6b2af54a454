"""The processes of a training on one machine, each with its own device and its share of the data.

The first process starts the others with its own command line, and it watches them: nobody waits
for a process that is gone. torchrun and SLURM start all processes themselves; then this module
starts none.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch.distributed
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from ming_core.errors import MingError
from ming_core.notes import note_to_user
from ming_recipes.training.runs.attempts import last_error, other_log
from ming_recipes.training.runs.stopping import GRACE, Stop

PARENT = "MING_FIRST_PROCESS"
"""The id of the process that has started this one."""

_LOST = ("gloo", "nccl", "connection", "peer", "socket", "store")
"""Words of the errors that a process meets whose partner is gone."""

ALIVE = 0.5
"""Seconds between two looks at the other processes."""


class Lost(MingError):
    """Another process of the training has ended before its time."""


def is_follower() -> bool:
    """Whether this process was started by the first process of its training."""
    return os.environ.get(PARENT) == str(os.getppid())


def begun_elsewhere() -> bool:
    """Whether torchrun, SLURM or another launcher starts the processes of this training."""
    return "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()


@contextmanager
def other_processes(count: int, folder: Path, stop: Stop) -> Iterator[None]:
    """A block that `count` processes of this machine run, this one included.

    Raises Lost, also in place of what is raised because another process is gone.
    """
    if begun_elsewhere():
        with telling_of_lost():
            yield
        return
    if count == 1:
        yield
        return
    own = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "LOCAL_RANK": "0",
    }
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // count)
        torch.set_num_threads(threads)
        own["OMP_NUM_THREADS"] = str(threads)
    with _environment(own):
        watch = _Watch(count, folder, stop)
        try:
            yield
        except RuntimeError as error:
            if not _of_lost_partner(error) or (reason := watch.reason(wait=True)) is None:
                raise
            raise Lost(reason) from error
        else:
            watch.wait()
        finally:
            watch.end()


@contextmanager
def telling_of_lost() -> Iterator[None]:
    """Raises Lost for what is raised because a process is gone that somebody else has started."""
    try:
        yield
    except RuntimeError as error:
        if not _of_lost_partner(error):
            raise
        raise Lost(
            f"another process of this training is gone ({str(error).splitlines()[0]}); look for "
            "its error; what was saved is kept, and the same command goes on from there"
        ) from error


class _Watch:
    """Looks after the other processes of a training from the first one."""

    def __init__(self, count: int, folder: Path, stop: Stop) -> None:
        self.count, self.folder, self.stop = count, folder, stop
        self.others = {rank: start(rank) for rank in range(1, count)}
        self.ended = threading.Event()
        stop.last_act = self._kill
        threading.Thread(target=self._look, daemon=True).start()

    def reason(self, wait: bool = False) -> str | None:
        """Why the training cannot go on: what has ended another process; None if nothing has."""
        for _ in range(int(GRACE / ALIVE) if wait else 1):
            for rank, process in self.others.items():
                if code := process.poll():
                    return _sentence(rank, self.count, code, other_log(self.folder, rank))
            if wait:
                self.ended.wait(ALIVE)
        return None

    def wait(self) -> None:
        """Until the others have done their share, too. Raises Lost."""
        for process in self.others.values():
            process.wait()
        if (reason := self.reason()) is not None:
            raise Lost(reason)

    def end(self) -> None:
        """End the others, which may wait for something that does not come any more."""
        self.ended.set()
        if self._are_alive():
            for process in self.others.values():
                with suppress(OSError):
                    process.terminate()
            self._are_alive()
        self._kill()
        self.stop.last_act = lambda: None

    def _are_alive(self) -> bool:
        """Whether one of the others does not end within some seconds."""
        deadline = time.monotonic() + GRACE / 4
        while any(process.poll() is None for process in self.others.values()):
            if time.monotonic() > deadline:
                return True
            time.sleep(ALIVE / 10)
        return False

    def _look(self) -> None:
        """The main thread may wait for ever for a process that is gone."""
        while not self.ended.wait(ALIVE):
            if (reason := self.reason()) is None:
                continue
            if not self.ended.wait(GRACE):
                note_to_user(reason)
                self.stop.end(2)
            return

    def _kill(self) -> None:
        for process in self.others.values():
            with suppress(OSError):
                process.kill()


def start(rank: int) -> subprocess.Popen[bytes]:
    """Start process number `rank` with the command line of this one."""
    command = [sys.executable, *sys.orig_argv[1:]]
    environment = {
        **os.environ,
        "LOCAL_RANK": str(rank),
        PARENT: str(os.getpid()),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
    }
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def watch_parent(stop: Stop) -> None:
    """End this process if the first one, which has started it, is gone."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            never.wait(ALIVE)
        if not never.wait(GRACE):
            note_to_user(GONE)
            stop.end(2)

    never = threading.Event()
    threading.Thread(target=look, daemon=True).start()


GONE = (
    "the first process of this training is gone, so this one ends, too; what was saved is kept, "
    "and the same command goes on from there"
)


def _sentence(rank: int, count: int, code: int, log: Path) -> str:
    if code == 2 and (told := last_error(log)):
        return told
    of = f"process {rank + 1} of {count} of this training"
    rest = "what was saved is kept, and the same command goes on from there"
    if code < 0:
        memory = ", as the system does when memory runs out" if code == -9 else ""
        return f"{of} was ended by signal {-code}{memory}; {rest}"
    return f"{of} has failed, see {log}; {rest}"


def _of_lost_partner(error: RuntimeError) -> bool:
    """Whether an error may come from a process that is gone."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(word in text for word in _LOST)


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
