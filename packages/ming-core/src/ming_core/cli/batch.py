"""The loop over many inputs: one that is bad is reported, and the others are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ming_core.cli.common import told
from ming_core.cli.items import Item
from ming_core.cli.terminal import (
    moves_back,
    note,
    print_json,
    progress,
    say,
    say_notes,
    show,
)
from ming_core.errors import BadConfig, MingError
from ming_core.output import make_folder
from ming_core.text import one_line, valid

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.tasks import Outcome, Task


@dataclass(frozen=True)
class Shown:
    """A result for people. text: as it is printed. values: for JSON. save: writes a file.

    notes: what a reader should know. how: as "2.0 s of sound", for who watches.
    """

    text: str
    values: Mapping[str, Any]
    save: Callable[[Path], object]
    notes: Sequence[str] = ()
    how: str = ""


Far = Callable[[float, float | None], str]
"""How far a task is, in words."""


def run_batch(
    items: Sequence[Item],
    header: dict[str, Any],
    start: Callable[[], OmniModel],
    make: Callable[[Item], Task],
    shown: Callable[[Item, Any], Shown],
    *,
    batch: int,
    far: Far | None = None,
    out: str | None = None,
    again: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Run a task for each item, and write or print its result as soon as it is there.

    Args:
        items: The inputs.
        header: What the JSON tells beside `results`.
        start: Loads the model; not called if there is nothing to do.
        make: The task of an item. What it raises becomes the error of the item.
        shown: A result for people.
        batch: How many requests are answered together.
        far: How far the task of an item is, for who watches.
        out: Where results go.
        again: Also do those whose result lies in that folder already.
        as_json: Print one JSON object.
        quiet: Print no progress.

    An interruption keeps what is done. Raises Exit with code 2 if an item failed, and errors that
    are about all of them at once.
    """
    # A folder is for many results; one file that was named is written again.
    folder = out is not None and Path(out).is_dir()
    if again and not folder:
        raise BadConfig("--again is about results in a folder; name one with --out")
    work = _Batch(items, header, as_json, quiet, far)
    complete = stopped = False
    try:
        work.run(start, make, shown, batch, keep=folder and not again)
        complete = True
    except (KeyboardInterrupt, SystemExit):
        stopped = True
        raise
    finally:
        progress.clear()
        if as_json and (complete or stopped or work.results):
            end = {} if complete else {"interrupted": True}
            print_json({**header, "results": work.results, **end})
    work.sum_up()


class _Batch:
    def __init__(
        self,
        items: Sequence[Item],
        header: dict[str, Any],
        as_json: bool,
        quiet: bool,
        far: Far | None,
    ) -> None:
        self.items, self.header, self.as_json, self.quiet = items, header, as_json, quiet
        self.far = far
        self.several = len(items) > 1
        self.results: list[dict[str, Any]] = []
        self._unread = self._unsaved = self._skipped = 0
        self._watched = not quiet and moves_back(sys.stderr)

    def run(
        self,
        start: Callable[[], OmniModel],
        make: Callable[[Item], Task],
        shown: Callable[[Item, Any], Shown],
        batch: int,
        keep: bool,
    ) -> None:
        """keep: leave out what has its result already."""
        there = {item.target for item in self.items if item.target and item.target.exists()}
        skipped = {i for i, item in enumerate(self.items) if keep and item.target in there}
        left = [i for i, item in enumerate(self.items) if item.error is None and i not in skipped]
        outcomes = self._outcomes(left, start, make, batch)
        for number, item in enumerate(self.items):
            about: dict[str, Any] = {"file": valid(item.source)}
            if item.target is not None:
                about["out"] = valid(str(item.target))
            if number in skipped:
                note(f"{item.target} is there already", self.quiet)
                self._skipped += 1
                self.results.append({**about, "skipped": True})
            elif item.error is not None:
                self._fail(about, item, item.error)
            else:
                self._deliver(about, item, next(outcomes), shown)

    def _outcomes(
        self,
        left: Sequence[int],
        start: Callable[[], OmniModel],
        make: Callable[[Item], Task],
        batch: int,
    ) -> Iterator[Outcome]:
        """What becomes of the items with these numbers; the model is loaded for the first."""
        model = start()
        self.header.update(told(model))
        from ming_core.tasks import run_many

        def tell(at: int, *done: Any) -> None:
            if self.far:
                self._show(left[at], self.far(*done))

        tasks = (partial(make, self.items[number]) for number in left)
        outcomes = run_many(model, tasks, batch, tell if self._watched else None)
        for number in left:
            if self._watched and self.several:
                self._show(number, self.items[number].source)
            outcome = next(outcomes)
            progress.clear()
            yield outcome

    def _show(self, number: int, text: str) -> None:
        place = f"{number + 1} of {len(self.items)}  " if self.several else ""
        progress.show(place + text)

    def _deliver(
        self,
        about: dict[str, Any],
        item: Item,
        outcome: Outcome,
        shown: Callable[[Item, Any], Shown],
    ) -> None:
        if outcome.error is not None:
            self._fail(about, item, outcome.error)
            say_notes(outcome.notes, item.source)
            return
        result = shown(item, outcome.result)
        notes = list(dict.fromkeys([*outcome.notes, *result.notes]))
        values = {**about, **result.values}
        if notes:
            values["notes"] = notes
        error = self._unwritten(result, item)
        self.results.append({**values, "error": error} if error else values)
        say_notes(notes, item.source)

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

    def _unwritten(self, outcome: Shown, item: Item) -> str | None:
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
