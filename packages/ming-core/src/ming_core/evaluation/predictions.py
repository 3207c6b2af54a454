"""The file of a run: what was run, then a line for each prediction.

A line is on the disk as soon as its prediction is there. A run that was killed goes on behind the
last whole line, and its file in the end is the same as that of a run without a stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig
from ming_core.evaluation.benchmark import Row
from ming_core.evaluation.lines import LineFile, Lines, note_broken, read_lines
from ming_core.fields import shown

KIND = "predictions"
FORMAT = 1
"""Of the lines; this version does not read a later one."""


@dataclass(frozen=True)
class RunSettings:
    """What was run: the first line of a file of predictions.

    Attributes:
        benchmark: Its registered name.
        options: Its options as the user wrote them.
        limit: The highest number of samples; None for all.
        model: The name of the model.
        mark: Tells its weights and its config.json from others.
        dtype: Of the weights.
        data: The path of the data; None for a benchmark that brings its own.
        version: Of the toolkit.
    """

    benchmark: str
    options: Mapping[str, str]
    limit: int | None
    model: str
    mark: str
    dtype: str
    data: str | None
    version: str

    def difference(self, stored: RunSettings) -> str | None:
        """Why stored predictions cannot be a part of this run; None if they can.

        Where the model and the data lie does not matter: their contents are compared.
        """
        if stored.mark != self.mark:
            if stored.model != self.model:
                return f"with the model {stored.model}, not with {self.model}"
            return f"with other weights or another config.json of {self.model}"
        pairs = (
            (f"the benchmark {stored.benchmark}", f"the benchmark {self.benchmark}"),
            (_options(stored.options), _options(self.options)),
            (_limit(stored.limit), _limit(self.limit)),
            (f"dtype {stored.dtype}", f"dtype {self.dtype}"),
        )
        return next((f"with {old}, not with {new}" for old, new in pairs if old != new), None)


def _options(options: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(options.items())) or "no options"


def _limit(limit: int | None) -> str:
    return "no limit" if limit is None else f"limit {limit}"


@dataclass(frozen=True)
class Stored:
    """What a file of predictions holds. complete: whether its run came to the end."""

    settings: RunSettings
    rows: Sequence[Row]
    complete: bool


def read_predictions(path: Path) -> Stored:
    """Read a file of predictions. A line that broke off is left out with a note.

    Raises BadConfig for a file of another kind.
    """
    return _stored(path, read_lines(path, KIND))


def _stored(path: Path, lines: Lines) -> Stored:
    note_broken(path, lines)
    settings = _settings(path, lines)
    rows: dict[tuple[str, str], Row] = {}
    ended = False
    for number, value in lines.values:
        if "end" in value:
            ended = True
        else:
            row = _row(path, number, value)
            rows.setdefault((row.column, row.id), row)
    return Stored(settings, list(rows.values()), ended and not lines.broken)


def _settings(path: Path, lines: Lines) -> RunSettings:
    if lines.head is None:
        raise BadConfig(f"{path} has no predictions; run the benchmark again")
    head = dict(lines.head)
    if head.pop(KIND) != FORMAT:
        raise BadConfig(f"{path} was written by another version of ming-core; update ming-core")
    try:
        found = RunSettings(**head)
    except TypeError:
        found = None
    if found is None or not _is_right(found):
        raise BadConfig(f"the first line of {path} was changed; run the benchmark again")
    return found


def _is_right(found: RunSettings) -> bool:
    texts = (found.benchmark, found.model, found.mark, found.dtype, found.version)
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(found.options, dict)
        and all(isinstance(value, str) for value in found.options.values())
        and isinstance(found.data, str | None)
        and (found.limit is None or type(found.limit) is int)
    )


def _row(path: Path, number: int, value: dict[str, Any]) -> Row:
    error = value.get("error")
    right = (
        isinstance(value.get("id"), str)
        and isinstance(value.get("column"), str)
        and isinstance(value.get("facts"), dict)
        and ("prediction" in value) != ("error" in value)
        and isinstance(error, str | None)
    )
    if not right:
        raise BadConfig(
            f"line {number} of {path} is {shown(value)}; expected id, column, facts, and "
            "prediction or error; run the benchmark again"
        )
    return Row(value["id"], value["facts"], value["column"], value.get("prediction"), error)


def _as_value(row: Row) -> dict[str, Any]:
    what = {"prediction": row.prediction} if row.error is None else {"error": row.error}
    return {"id": row.id, "column": row.column, "facts": row.facts, **what}


def results_folder(file: Path) -> Path:
    """Where the pictures and sounds of a run lie: `run.files` beside `run.jsonl`."""
    return file.with_name(f"{file.stem}.files")


class Predictions:
    """An open file of predictions. `rows` has what is there, by column and id."""

    def __init__(self, file: LineFile, found: Stored) -> None:
        self.rows = {(row.column, row.id): row for row in found.rows}
        self._complete = found.complete
        self._settings = found.settings
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: RunSettings, again: bool = False) -> Iterator[Predictions]:
        """Begin a file, or go on with one of the same run. again: begin it in any case.

        Raises BadConfig for a file of another run or of another kind, or if another process has it;
        CannotWrite.
        """
        if path.exists():
            read_lines(path, KIND)  # what is of another kind stays as it is
        with LineFile.open(path) as file:
            lines = read_lines(path, KIND)
            if again or lines.head is None:
                file.cut(0)
                file.add(_head(settings))
                found = Stored(settings, [], False)
            else:
                found = _stored(path, lines)
                other = settings.difference(found.settings)
                if other is not None:
                    raise BadConfig(
                        f"{path} was made {other}; choose another file with --out, or replace it "
                        "with --again"
                    )
                file.cut(lines.size)
            yield cls(file, found)

    def add(self, rows: Iterable[Row]) -> None:
        """Write predictions. Raises CannotWrite."""
        for row in rows:
            self._file.add(_as_value(row))
            self.rows[row.column, row.id] = row

    def finish(self, keys: Sequence[tuple[str, str]]) -> list[Row]:
        """Note that the run came to its end. keys: column and id of all samples in their order.

        Raises BadConfig if there are predictions of other samples.
        """
        other = self.rows.keys() - set(keys)
        if other:
            column, name = min(other)
            raise self.other_data(f"{name!r} of {column!r} is no sample now")
        rows = [self.rows[key] for key in keys]
        end = {"end": len(rows)}
        if not self._complete and list(self.rows) == list(keys):
            self._file.add(end)
        elif not self._complete:  # a line before others was done again
            self._file.replace([_head(self._settings), *map(_as_value, rows), end])
        return rows

    def other_data(self, why: str) -> BadConfig:
        """The error for predictions of other samples than those of the run."""
        return BadConfig(
            f"{self._file.path} was made with other data: {why}; choose another file with --out, "
            "or replace it with --again"
        )


def _head(settings: RunSettings) -> dict[str, Any]:
    return {KIND: FORMAT, **asdict(settings)}
