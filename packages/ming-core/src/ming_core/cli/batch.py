"""The loop over many inputs: one that is bad is reported, and the others are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import typer

from ming_core.cli.items import Item
from ming_core.cli.terminal import (
    moves_back,
    note,
    print_json,
    progress,
    said_notes,
    say,
    show,
)
from ming_core.errors import (
    BadCheckpoint,
    BadConfig,
    MingError,
    MissingPlugin,
    UnknownName,
)
from ming_core.output import make_folder
from ming_core.text import one_line, valid

Tell = Callable[[str], None]
"""Shows how far the work on one input is."""


class Result(Protocol):
    """What the tasks give."""

    def to_dict(self) -> dict[str, Any]: ...

    def save(self, path: str | Path) -> Path: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one input. text: as it is printed. values: for JSON. save: writes a file.

    notes: what a reader should know. how: as "2.0 s of sound in 0.1 s", for who watches.
    """

    text: str
    values: Mapping[str, Any]
    save: Callable[[Path], object]
    notes: Sequence[str] = ()
    how: str = ""


Work = Callable[[Item, Tell | None], Outcome]


def run_batch(
    items: Sequence[Item],
    header: Mapping[str, Any],
    start: Callable[[], Work],
    *,
    out: str | None = None,
    again: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Work on each item, and write or print its result as soon as it is there.

    header: what the JSON tells beside `results`. start: loads the model; not called if there is
    nothing to do. out: where results go. again: also do those that lie in that folder already. An
    interruption keeps what is done. Raises Exit with code 2 if an item failed, and errors that are
    about all of them at once.
    """
    # A folder is for many results; one file that was named is written again.
    folder = out is not None and Path(out).is_dir()
    if again and not folder:
        raise BadConfig("--again is about results in a folder; name one with --out")
    batch = _Batch(items, as_json, quiet)
    complete = stopped = False
    try:
        batch.run(start, keep=folder and not again)
        complete = True
    except (KeyboardInterrupt, SystemExit):
        stopped = True
        raise
    finally:
        progress.clear()
        if as_json and (complete or stopped or batch.results):
            end = {} if complete else {"interrupted": True}
            print_json({**header, "results": batch.results, **end})
    batch.sum_up()


class _Batch:
    def __init__(self, items: Sequence[Item], as_json: bool, quiet: bool) -> None:
        self.items, self.as_json, self.quiet = items, as_json, quiet
        self.several = len(items) > 1
        self.results: list[dict[str, Any]] = []
        self._unread = self._unsaved = self._skipped = 0
        self._watched = not quiet and moves_back(sys.stderr)

    def run(self, start: Callable[[], Work], keep: bool) -> None:
        """keep: leave out what has its result already."""
        work: Work | None = None
        there = {item.target for item in self.items if item.target and item.target.exists()}
        for number, item in enumerate(self.items, 1):
            about: dict[str, Any] = {"file": valid(item.source)}
            if item.target is not None:
                about["out"] = valid(str(item.target))
            if keep and item.target in there:
                note(f"{item.target} is there already", self.quiet)
                self._skipped += 1
                self.results.append({**about, "skipped": True})
                continue
            if item.error is not None:
                self._fail(about, item, item.error)
                continue
            work = work or start()
            with said_notes(item.source) as notes:
                try:
                    outcome = self._worked(work, item, number)
                except (BadCheckpoint, MissingPlugin, UnknownName):
                    raise  # it would be the same for all
                except (MingError, OSError) as error:
                    self._fail(about, item, error)
                    continue
                notes += [sentence for sentence in outcome.notes if sentence not in notes]
                values = {**about, **outcome.values}
                if notes:
                    values["notes"] = list(notes)
                error = self._unwritten(outcome, item)
                self.results.append({**values, "error": error} if error else values)

    def sum_up(self) -> None:
        """Raises Exit with code 2 if something went wrong."""
        count = len(self.items)
        if self._skipped and not self.quiet:
            say(f"{self._skipped} of {count} results are there already; --again does them over")
        if self.several and self._unread:
            say(f"{self._unread} of {count} files could not be read")
        if self.several and self._unsaved:
            say(f"{self._unsaved} of {count} results could not be saved")
        if self._unread or self._unsaved:
            raise typer.Exit(2)

    def _worked(self, work: Work, item: Item, number: int) -> Outcome:
        place = f"{number} of {len(self.items)}  " if self.several else ""

        def tell(text: str) -> None:
            progress.show(place + text)

        if self._watched and self.several:
            tell(item.source)
        try:
            return work(item, tell if self._watched else None)
        finally:
            progress.clear()

    def _unwritten(self, outcome: Outcome, item: Item) -> str | None:
        """Write or print a result. One that cannot be written is printed; returns why."""
        error = None
        if item.target is not None:
            try:
                make_folder(item.target.parent)
                outcome.save(item.target)
            except MingError as refused:
                self._unsaved += 1
                error = self._tell(item, refused)
        saved = item.target is not None and error is None
        if not saved and not self.as_json:
            if self.several:
                show(f"==> {one_line(item.source)} <==")
            show(outcome.text, end="\n" if self.several else "")
        if outcome.how:
            note(f"{item.target or item.source}: {outcome.how}", self.quiet)
        elif saved:
            note(f"wrote {item.target}", self.quiet)
        return error

    def _fail(self, about: dict[str, Any], item: Item, error: Exception) -> None:
        self._unread += 1
        self.results.append({**about, "error": self._tell(item, error)})

    def _tell(self, item: Item, error: Exception) -> str:
        message = str(error)
        if isinstance(error, OSError):
            message = f"cannot read it: {error.strerror or error}"
        if self.several and os.path.basename(item.source) not in message:
            message = f"{item.source}: {message}"
        say(message)
        return valid(message)
