"""Asking a model all samples of a benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_core.errors import BadCheckpoint, BadConfig, MingError, MissingPlugin, UnknownName
from ming_core.evaluation.benchmark import Benchmark, Row, Sample
from ming_core.evaluation.predictions import Predictions, RunSettings, results_folder
from ming_core.notes import note_to_user
from ming_core.tasks import run_many
from ming_core.text import json_text, valid

if TYPE_CHECKING:
    from ming_core.api import OmniModel

SAMPLED = 256
"""Bytes of each tensor by which weights are told from others."""

Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Gives the items of a long loop one by one, and may show how far it is under a title."""


def untracked(items: Sequence[Any], title: str) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return items


def run_settings(
    model: OmniModel,
    name: str,
    options: Mapping[str, str],
    data: Path | None,
    limit: int | None,
) -> RunSettings:
    """What a run is, for the first line of its file. name: of the benchmark."""
    from ming_core.plugins import CORE, version_of

    return RunSettings(
        benchmark=name,
        options=dict(options),
        limit=limit,
        model=model.short_name,
        mark=model_mark(model),
        dtype=str(model.sources.dtype).removeprefix("torch."),
        data=None if data is None else str(data),
        version=version_of(CORE) or "",
    )


def model_mark(model: OmniModel) -> str:
    """Tells a model from others: a hash of its config.json and of some bytes of each tensor.

    So little is read that it takes no time, however large the model is.
    """
    sources = model.sources
    digest = hashlib.sha256(json_text([sources.config, sources.preprocessor]).encode())
    for checkpoint in sources.checkpoints:
        for path in sorted(checkpoint.folder.rglob("*.safetensors")):
            _add_file(digest, path)
    if not sources.checkpoints:  # a model in memory, as while it is trained
        for name, value in sorted(model.omni.state_dict().items()):
            digest.update(name.encode() + value.flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _add_file(digest: Any, path: Path) -> None:
    from ming_core.checkpoints.formats import read_header

    with path.open("rb") as file:
        for name, tensor in read_header(path).items():
            count = min(SAMPLED, tensor.nbytes)
            file.seek(tensor.offset + (tensor.nbytes - count) // 2)
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + file.read(count))


def predict(
    model: OmniModel,
    benchmark: Benchmark,
    settings: RunSettings,
    file: Path,
    *,
    again: bool = False,
    track: Track = untracked,
) -> list[Row]:
    """Ask a model all samples and write its predictions line by line into a file.

    What is in the file already is not asked again. A sample that cannot be read has an `error`, and
    the others are done.

    Args:
        settings: What is run, see `run_settings`. The data and the limit are taken from it.
        file: Of the predictions. Pictures and sounds go into `results_folder(file)`.
        again: Replace the file.
        track: Shows how far the run is.

    Raises BadConfig if the file has predictions of another model, data or options; CannotWrite; and
    what is wrong with the model or the data.
    """
    data = None if settings.data is None else Path(settings.data)
    samples = benchmark.suited_to(model).samples(data, settings.limit)
    keys: dict[tuple[str, str], None] = {}
    with Predictions.open(file, settings, again) as stored:
        before = len(stored.rows)
        for column, found in groupby(samples, key=lambda sample: sample.column):
            own = [replace(sample, id=valid(sample.id)) for sample in found]
            for sample in own:
                if (column, sample.id) in keys:
                    raise BadConfig(f"two samples of {column!r} are called {sample.id!r}")
                keys[column, sample.id] = None
                _check_facts(stored, sample)
            batches = list(_batches(own, benchmark.batch(column)))
            for batch in track(batches, column):
                # A batch that was stopped in the middle is answered as a whole once more: numbers
                # depend a little on their neighbours.
                missing = {s.id for s in batch if (column, s.id) not in stored.rows}
                if missing:
                    rows = _answered(model, benchmark, batch, results_folder(file))
                    stored.add(row for row in rows if row.id in missing)
        if before and before == len(keys):
            note_to_user(f"all {before} predictions are in {file} already; --again makes new ones")
        return stored.finish(list(keys))


def _check_facts(stored: Predictions, sample: Sample) -> None:
    """Raises BadConfig if there is a prediction for other facts."""
    row = stored.rows.get((sample.column, sample.id))
    if row is not None and json_text(row.facts) != json_text(dict(sample.facts)):
        raise stored.other_data(f"{sample.id!r} of {sample.column!r} is another sample now")


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _answered(
    model: OmniModel, benchmark: Benchmark, batch: Sequence[Sample], folder: Path
) -> list[Row]:
    """The rows of samples that are answered together, turn by turn."""
    results: list[list[Any]] = [[] for _ in batch]
    errors: list[str | None] = [None] * len(batch)
    going = list(range(len(batch)))
    while going:
        tasks = {}
        for i in going:
            try:
                done = results[i]
                task = benchmark.next_task(batch[i], done) if done else benchmark.task(batch[i])
            except (MingError, OSError) as error:
                errors[i] = _own(error)
                continue
            if task is not None:
                tasks[i] = task
        if not tasks:
            break
        outcomes = run_many(model, list(tasks.values()), batch=len(tasks))
        for i, outcome in zip(tasks, outcomes, strict=True):
            if outcome.error is not None:
                errors[i] = _own(outcome.error)
            else:
                results[i].append(outcome.result)
        going = [i for i in tasks if errors[i] is None]
    return [_row(benchmark, *each, folder) for each in zip(batch, results, errors, strict=True)]


def _row(
    benchmark: Benchmark, sample: Sample, results: Sequence[Any], error: str | None, folder: Path
) -> Row:
    prediction = None if error else benchmark.prediction(sample, results, folder)
    return Row(sample.id, dict(sample.facts), sample.column, prediction, error)


def _own(error: MingError | OSError) -> str:
    """The sentence of an error that is about one sample. Raises one that is about all of them."""
    if isinstance(error, BadCheckpoint | MissingPlugin | UnknownName):
        raise error
    note_to_user(f"left out: {error}")
    return str(error)
