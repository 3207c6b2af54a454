"""The folder of a training run: one process at a time, one set of settings, one way to fail."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from ming_core.errors import BadConfig, MingError
from ming_core.notes import note_to_user
from ming_core.output import remove_parts, replacing
from ming_recipes.training.runs.attempts import attempt_log, log, logging_to, other_log
from ming_recipes.training.runs.machine import environment, summary
from ming_recipes.training.runs.metrics import METRICS
from ming_recipes.training.runs.processes import (
    GONE,
    is_follower,
    other_processes,
    telling_of_lost,
    watch_parent,
)
from ming_recipes.training.runs.stopping import Stop, Stopped, answering_signals

RECORD = "run.json"
"""What a run was started with, and the process that trains it: `settings`, `command`, `process`."""

SETTINGS = "config.yaml"
"""The settings as a file that `ming train --config` takes."""

ENVIRONMENT = "environment.json"
"""With which versions and on which machine the newest attempt was made."""

LOCK = "run.lock"


class BadRun(MingError):
    """A run cannot be started, gone on with or saved in its folder."""


@dataclass(frozen=True)
class Run:
    """A run that this process trains. stop: whether it is asked to stop."""

    folder: Path
    stop: Stop

    def note(self, sentence: str) -> None:
        """Tell the user something; once, however many processes train."""
        if rank_zero_only.rank == 0:
            note_to_user(sentence)

    def stopped(self, number: int, where: str) -> Stopped:
        """What to raise once a training has saved its state and stopped for a signal."""
        self.note(f"stopped {where}; the state is saved, and the same command goes on from there")
        return Stopped(number)


@contextmanager
def running(
    folder: Path, config: Any, command: str, results: Sequence[str], processes: int = 1
) -> Iterator[Run]:
    """The block in which a training runs.

    folder: it is made if necessary, and locked until the process ends. config: a dataclass of
    settings. The first process records all of them but `out`, the folder itself; later processes
    must have the same. results: names of files that the recipe writes there and may replace. A
    folder that holds one of them and no record belongs to somebody else. processes: how many of
    this machine run the block; the others are started here, unless torchrun or SLURM did so.

    Raises BadRun if the folder cannot be used, and for an OSError inside; Stopped for a signal;
    Lost if another process is gone.
    """
    with answering_signals() as stop:
        if rank_zero_only.rank:
            with _following(folder, stop):
                yield Run(folder, stop)
            return
        try:
            with _locked(folder):
                new = not (folder / RECORD).exists()
                _record(folder, settings_of(config), command, results)
                remove_parts(folder)
                try:
                    with (
                        logging_to(attempt_log(folder), command, summary()),
                        other_processes(processes, folder, stop),
                    ):
                        _write_beside(folder, config)
                        yield Run(folder, stop)
                except MingError:
                    if new and not _has_begun(folder, results):
                        (folder / RECORD).unlink(
                            missing_ok=True
                        )  # a mended command may use the folder
                    raise
        except OSError as error:
            place = f" {error.filename}" if error.filename else ""
            raise BadRun(
                f"cannot go on in {folder}: {error.strerror or error}{place}; what was saved there "
                "is kept; free space or mend the folder, then the same command goes on"
            ) from error


@contextmanager
def _following(folder: Path, stop: Stop) -> Iterator[None]:
    """What a process that is not the first does besides: it leaves the telling to the first one."""
    with logging_to(other_log(folder, rank_zero_only.rank)):
        if not is_follower():  # nobody else would tell
            with telling_of_lost():
                yield
            return
        parent = os.getppid()
        watch_parent(stop)
        try:
            yield
        except Stopped:
            raise SystemExit(0) from None
        except MingError as error:
            log.error("%s", error)
            raise SystemExit(2) from None
        except Exception:
            if os.getppid() != parent:
                note_to_user(GONE)
            log.exception("ended by an error of the program")
            raise SystemExit(1) from None


def _has_begun(folder: Path, results: Sequence[str]) -> bool:
    """Whether there is a step, a state or a result that other settings would not fit."""
    return any(os.path.lexists(folder / name) for name in results) or any(
        next(folder.rglob(pattern), None) for pattern in (METRICS, "*.ckpt")
    )


def settings_of(config: Any) -> dict[str, Any]:
    """What must not change in a run: the settings without the folder, which may be moved."""
    found = {name: value for name, value in asdict(config).items() if name != "out"}
    return json.loads(json.dumps(found))  # as they are read again


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The system opens the lock when the process ends, also when it is killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise BadRun(
            f"{_owner(folder)} trains in {folder}; wait for it, stop it, or choose another folder"
        ) from None
    except OSError as error:
        raise BadRun(
            f"cannot train in {folder}: {error.strerror or error}; choose another folder with out="
        ) from error
    try:
        yield
    finally:
        lock.release()


def _owner(folder: Path) -> str:
    try:
        process = json.loads((folder / RECORD).read_text("utf-8"))["process"]
        return f"process {process['id']} on {process['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _record(
    folder: Path, settings: Mapping[str, Any], command: str, results: Sequence[str]
) -> None:
    """Compare with what the run was started with, and write down who trains it now."""
    path = folder / RECORD
    if path.exists():
        _compare(path, settings)
    else:
        found = [name for name in results if os.path.lexists(folder / name)]
        if found:
            raise BadRun(
                f"{folder} holds {', '.join(found)} but no {RECORD}, so it cannot be told how they "
                "were made; choose another folder with out="
            )
    record = {
        "settings": settings,
        "command": command,
        "process": {"id": os.getpid(), "host": socket.gethostname()},
    }
    try:
        _write(path, _json(record))
    except OSError as error:
        raise BadRun(
            f"cannot write {path}: {error.strerror or error}; free space, or choose another folder "
            "with out="
        ) from error


def _write_beside(folder: Path, config: Any) -> None:
    """The same for people and other programs. Raises OSError."""
    import yaml

    _write(folder / SETTINGS, yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))
    _write(folder / ENVIRONMENT, _json(environment()))


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8", errors="replace") != text:
        with replacing(path) as file:
            file.write(text.encode())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _compare(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        known = json.loads(path.read_text("utf-8"))["settings"]
        known.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadRun(
            f"{path} cannot be read, so it cannot be told how this run was started; choose another "
            "folder with out="
        ) from None
    absent = "not set"
    there, now = dict(_flat(known)), dict(_flat(settings))
    other = [
        f"{name} ({there.get(name, absent)} there, {now.get(name, absent)} now)"
        for name in sorted({*there, *now})
        if there.get(name, absent) != now.get(name, absent)
    ]
    if other:
        raise BadConfig(
            f"the run in {path.parent} was started with other settings: {', '.join(other)}; use "
            "those, or choose another folder with out="
        )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of nested settings, by their names in a command: `optimizer.rate`."""
    if isinstance(value, Mapping) and (value or not name):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _flat(item, f"{name}.{place}")
    else:
        yield name, value
