"""A log for each attempt at a run. What libraries say goes there, and not on the terminal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ming_core.errors import MingError
from ming_core.notes import log as notes
from ming_core.text import one_line

LOGS = "logs"
_LIBRARIES = ("lightning", "lightning.pytorch", "lightning.fabric", "py.warnings", "torch")
"""Loggers that would print between the lines of the training."""

log = logging.getLogger("ming.training")
"""What belongs into the log alone."""


def attempt_log(folder: Path) -> Path:
    """Where the next attempt at the run in a folder writes its log: `logs/attempt-003.log`."""
    found = (re.fullmatch(r"attempt-(\d+)\.log", path.name) for path in (folder / LOGS).glob("*"))
    last = max((int(match[1]) for match in found if match), default=0)
    return folder / LOGS / f"attempt-{last + 1:03}.log"


def other_log(folder: Path, rank: int) -> Path:
    """The log of a further process, for all attempts: `logs/process-2.log`."""
    return folder / LOGS / f"process-{rank + 1}.log"


@contextmanager
def logging_to(path: Path, *start: str) -> Iterator[None]:
    """Write down what happens inside: notes, what libraries say, and how it ends.

    start: lines for the beginning. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=False)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.handleError = lambda record: None  # a full disk is told when a state is saved
    with _heard_by(handler):
        for line in start:
            log.info(line)
        try:
            yield
        except MingError as error:
            log.error("%s", error)
            raise
        except SystemExit as error:
            log.info("ended with exit code %s", error.code)
            raise
        except BaseException:
            log.exception("ended by an error of the program")
            raise
        else:
            log.info("ended")
        finally:
            handler.close()


def last_error(path: Path) -> str:
    """The newest error in a log, without its time; empty if there is none."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    parts = (line.split(" ", 3) for line in reversed(lines))
    return next((words[3] for words in parts if len(words) == 4 and words[2] == "ERROR"), "")


class _OneLine(logging.Formatter):
    """One line for a record, so that a log can be searched; but a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            return super().format(record)
        return one_line(super().format(record).strip())


@contextmanager
def _heard_by(handler: logging.Handler) -> Iterator[None]:
    """Let the handler hear notes too, and let it alone hear libraries and warnings of Python."""
    loggers = [log, *map(logging.getLogger, _LIBRARIES)]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    log.setLevel(logging.INFO)
    notes.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        notes.removeHandler(handler)
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
