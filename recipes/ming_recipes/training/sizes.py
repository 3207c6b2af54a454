"""Every row is measured once before a training, so that all of it can be planned.

The sizes are kept in a file, line by line. A measuring that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ming_core.cli import terminal
from ming_core.errors import BadConfig
from ming_core.evaluation.lines import LineFile, read_lines
from ming_recipes.training.examples import Parts, read_example
from ming_recipes.training.files import Rows
from ming_recipes.training.records import BadRow
from ming_recipes.training.runs.stopping import leave_signals

Progress = Callable[[int, int, str], None]
"""Is told (rows done, rows in all, name of the data set)."""


@dataclass(frozen=True)
class Size:
    """What a row takes.

    Attributes:
        tokens: Tokens of the backbone.
        targets: Those of them that the loss is about.
        weight: Weight of each target.
        work: Rows of input of each encoder, by modality.
        prefix, group: As of `Example`.
    """

    tokens: int
    targets: int
    weight: float = 1.0
    work: Mapping[str, int] = field(default_factory=dict)
    prefix: int = 0
    group: str = ""


@dataclass(frozen=True)
class Measured:
    """The sizes of the rows of a data set; None for a row that is left out.

    faults: what is wrong with those rows, by the number of the row. doubled: the rows whose id an
    earlier row has; they are kept. notes: what the user should know about the media, with the
    number of rows.
    """

    rows: Rows
    sizes: Sequence[Size | None]
    faults: Mapping[int, BadRow] = field(default_factory=dict)
    doubled: Sequence[BadRow] = ()
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.rows.dataset

    def kept(self) -> list[int]:
        """Numbers of the rows that can be trained on."""
        return [number for number, size in enumerate(self.sizes) if size is not None]

    def limited(self, capacity: int) -> Measured:
        """The same without the rows that have more tokens than a packed row holds."""
        sizes = list(self.sizes)
        faults = dict(self.faults)
        for number, size in enumerate(sizes):
            if size is not None and size.tokens > capacity:
                sizes[number] = None
                faults[number] = BadRow(
                    "too long",
                    self.rows.where(number),
                    f"the row has {size.tokens} tokens, and a packed row holds {capacity}; raise "
                    "the capacity, or shorten the row",
                )
        return replace(self, sizes=sizes, faults=faults)

    def told(self) -> list[str]:
        """Sentences about what is left out, a line for each kind of fault."""
        count = Counter(error.fault for error in self.faults.values())
        first: dict[str, BadRow] = {}
        for number in sorted(self.faults):
            first.setdefault(self.faults[number].fault, self.faults[number])
        lines = [
            f"{number} of {len(self.rows)} rows of {self.name} are left out ({fault}); "
            f"the first: {first[fault]}"
            for fault, number in count.most_common()
        ]
        if self.doubled:
            count = len(self.doubled)
            lines.append(
                f"{count} of {len(self.rows)} rows of {self.name} have an id that was used before, "
                f"and are kept; the first: {self.doubled[0]}"
            )
        return lines + [
            f"{sentence} ({number} rows of {self.name})" for sentence, number in self.notes.items()
        ]


class _Sized(Dataset[dict[str, Any]]):
    """A row -> its line in the file of sizes."""

    def __init__(self, rows: Rows, parts: Parts, first: int) -> None:
        self.rows, self.parts, self.first = rows, parts, first

    def __len__(self) -> int:
        return len(self.rows) - self.first

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return measure_row(self.rows, index + self.first, self.parts)
        except StopIteration as error:  # a loader would take it for the end of the rows
            raise RuntimeError("the reader of a recipe has raised StopIteration") from error


def measure_row(rows: Rows, number: int, parts: Parts) -> dict[str, Any]:
    """What a line of the file of sizes says about a row."""
    try:
        example = read_example(rows[number], parts)
        record = example.record
        if example.tokens > parts.context:
            raise BadRow(
                "too long",
                record.where,
                f"the row has {example.tokens} tokens, and the context of {parts.name} holds "
                f"{parts.context}; shorten the row",
            )
        if not example.targets:
            raise BadRow("empty text", record.where, "the row has no token to learn")
    except BadRow as error:
        fault = {"fault": error.fault, "where": error.where, "reason": error.reason}
        return {"row": number, "bad": fault}
    size = Size(
        example.tokens,
        example.targets,
        record.weight,
        example.work(),
        example.prefix,
        example.group,
    )
    line: dict[str, Any] = {"row": number, "id": record.id, "size": asdict(size)}
    return line | ({"notes": list(example.notes)} if example.notes else {})


def measure(
    rows: Rows,
    parts: Parts,
    file: Path | None = None,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Measure every row, or read what `file` says about it.

    Another process that measures into the same file is waited for. Raises CannotWrite.
    """
    if file is None:
        lines = list(_watched(_lines(rows, parts, 0, workers), 0, rows, progress))
        return _measured(rows, lines)
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        head = {"sizes": 1, "rows": rows.fingerprint(), "model": parts.key}
        known = _known(file, head)
        if known is None:
            file.unlink(missing_ok=True)
            known = []
        if len(known) < len(rows):
            with LineFile.open(file) as out:
                if not known:
                    out.cut(0)
                    out.add(head)
                for line in _watched(
                    _lines(rows, parts, len(known), workers), len(known), rows, progress
                ):
                    out.add(line)
                    known.append(line)
    return _measured(rows, known)


def _known(file: Path, head: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The lines of an earlier measuring of the same rows, from the first one on without a gap."""
    if not file.exists():
        return None
    try:
        found = read_lines(file, "sizes")
    except BadConfig:
        return None
    lines = [line for _, line in found.values]
    if found.head != dict(head) or found.broken:
        # A broken line can only be the last one, which is cut off here.
        if found.head != dict(head):
            return None
        with LineFile.open(file) as out:
            out.cut(found.size)
    whole = all(line.get("row") == number for number, line in enumerate(lines))
    return lines if whole else None


def _lines(rows: Rows, parts: Parts, first: int, workers: int) -> Iterator[dict[str, Any]]:
    if len(rows) - first < 64:
        workers = 0
    yield from DataLoader(
        _Sized(rows, parts, first),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=leave_signals,
    )


def _watched(
    lines: Iterator[dict[str, Any]], done: int, rows: Rows, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, done + 1):
        yield line
        if progress is not None:
            progress(number, len(rows), rows.dataset)


def _measured(rows: Rows, lines: Sequence[Mapping[str, Any]]) -> Measured:
    sizes: list[Size | None] = [None] * len(rows)
    faults: dict[int, BadRow] = {}
    notes: Counter[str] = Counter()
    doubled: list[BadRow] = []
    first: dict[str, int] = {}
    for line in lines:
        number = line["row"]
        if bad := line.get("bad"):
            faults[number] = BadRow(bad["fault"], bad["where"], bad["reason"])
            continue
        sizes[number] = Size(**line["size"])
        notes.update(line.get("notes", ()))
        name = line["id"]
        if first.setdefault(name, number) != number:
            reason = f"the id {name!r} is that of {rows.where(first[name])}, too"
            doubled.append(BadRow("duplicate id", rows.where(number), reason))
    return Measured(rows, sizes, faults, doubled, notes)


def terminal_progress() -> Progress:
    """Shows on a terminal how far the measuring is, and how long it will take."""
    start = shown = time.monotonic()

    def tell(done: int, count: int, name: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if done == count:
            terminal.progress.clear()
        elif now - shown > 0.2 and sys.stderr.isatty():
            shown = now
            left = (now - start) / done * (count - done)
            terminal.progress.show(f"reading {name}: {done}/{count} rows, {left:.0f} s left")

    return tell
