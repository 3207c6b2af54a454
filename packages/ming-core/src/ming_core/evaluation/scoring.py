"""From predictions to scores: no model is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig, MingError
from ming_core.evaluation.benchmark import Benchmark, Judge, Row, Score
from ming_core.evaluation.lines import LineFile, note_broken, read_lines
from ming_core.evaluation.predictions import results_folder
from ming_core.evaluation.running import Track, untracked
from ming_core.notes import note_to_user
from ming_core.plugins import describe
from ming_core.text import json_text

KIND = "verdicts"
FORMAT = 1


def score_rows(benchmark: Benchmark, rows: Sequence[Row]) -> list[Score]:
    """The scores of predictions. Raises BadConfig if there is none, or for rows of another kind."""
    errors = [row.error for row in rows if row.error is not None]
    if not rows:
        raise BadConfig("there are no predictions yet; run the benchmark again")
    if len(errors) == len(rows):
        raise BadConfig(f"no sample has a prediction: {errors[0]}")
    with _fitting():
        return list(benchmark.score(rows))


def judge_rows(
    benchmark: Benchmark,
    name: str,
    rows: Sequence[Row],
    file: Path,
    data: Path | None = None,
    track: Track = untracked,
) -> list[Row]:
    """The rows with the verdicts of a judge, who is asked once about each prediction.

    Verdicts are kept line by line in a file beside the predictions, each with a hash of what it is
    about: `run.jsonl` has those of the judge `strict` in `run.strict.jsonl`.

    Args:
        name: Of the judge.
        file: Of the predictions.
        data: Where the data of the run lie.

    Raises BadConfig, UnknownName or MissingPlugin if there is no such judge, BadConfig for rows of
    another kind, CannotWrite.
    """
    with _fitting():
        judge = benchmark.judge(name, rows, data, results_folder(file))
    path = file.with_name(f"{file.stem}.{name}.jsonl")
    with LineFile.open(path) as lines:
        found = read_lines(path, KIND)
        note_broken(path, found)
        lines.cut(found.size)
        if found.head is None:
            lines.add({KIND: FORMAT, "judge": name})
        known = {value.get("about"): value.get("verdict") for _, value in found.values}
        judged = []
        for row in track(rows, name):
            key = _hash(row)
            verdict = known.get(key)
            if verdict is None and row.error is None:
                with _fitting():
                    verdict = _verdict(judge, row)
                if verdict is not None:
                    about = {"id": row.id, "column": row.column, "about": key}
                    lines.add({**about, "verdict": verdict})
            if verdict is not None:
                row = replace(row, verdicts={**row.verdicts, name: verdict})
            judged.append(row)
    return judged


@contextmanager
def _fitting() -> Iterator[None]:
    """Facts and predictions come from a file, so they may be of another kind than expected."""
    try:
        yield
    except (MingError, OSError):
        raise
    except Exception as error:
        raise BadConfig(
            f"the benchmark cannot read its predictions ({describe(error)}): they were changed, or "
            "written by another version; run the benchmark again"
        ) from error


def _verdict(judge: Judge, row: Row) -> Any:
    try:
        return judge(row)
    except MingError as error:
        note_to_user(f"not judged: {error}")
        return None


def _hash(row: Row) -> str:
    about = json_text([row.column, row.id, row.facts, row.prediction], indent=None)
    return hashlib.sha256(about.encode()).hexdigest()[:16]
