"""The benchmark `nano-perception`: what a model sees and hears of held-out shapes world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ming_core.errors import UnknownName
from ming_core.evaluation import (
    Benchmark,
    Row,
    Sample,
    Score,
    Track,
    predict,
    run_settings,
    untracked,
)
from ming_core.notes import note_to_user
from ming_recipes.nano.scores import evaluate as asking
from ming_recipes.nano.scores import hearing
from ming_recipes.nano.scores.evaluate import SLICES, SOUND_SLICES, Slices

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.tasks import Task

NAME = "nano-perception"

SPEECH = "speech"
"""Of the parts, that of utterances to write down."""

IMAGES = 200
"""Held-out scenes of each slice, unless a limit is given."""


class NanoPerception(Benchmark):
    """Questions about pictures, videos and sounds, and speech to write down.

    What is about sounds is left out, with a note, if the model has no ears or the programs that
    speak are not installed.

    Args:
        only: The parts that are asked, with commas between them: names of slices, and `speech`.
    """

    def __init__(
        self,
        slices: Slices = SLICES,
        sounds: Slices = SOUND_SLICES,
        speech: bool = True,
        *,
        only: str | None = None,
    ) -> None:
        if only is not None:
            names = [name.strip() for name in only.split(",")]
            for name in names:
                if name not in (known := [*slices, *sounds, SPEECH]):
                    raise UnknownName("part of nano-perception", name, known)
            slices = {name: asks for name, asks in slices.items() if name in names}
            sounds = {name: asks for name, asks in sounds.items() if name in names}
            speech = SPEECH in names
        self.slices, self.sounds, self.speech = slices, sounds, speech

    def suited_to(self, model: OmniModel) -> NanoPerception:
        reason = hearing.why_unheard(model) if self.sounds or self.speech else None
        if reason is None:
            return self
        note_to_user(f"hearing is not scored: {reason}")
        return NanoPerception(self.slices, {}, speech=False)

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        """limit: scenes of each slice, and utterances of each language."""
        images = limit or IMAGES
        yield from asking.question_samples({**self.slices, **self.sounds}, images)
        if self.speech:
            yield from hearing.speech_samples(images)

    def batch(self, column: str) -> int:
        return hearing.BATCH if hearing.is_speech(column) else asking.BATCH

    def task(self, sample: Sample) -> Task:
        if hearing.is_speech(sample.column):
            return sample.item.task
        return asking.Turn([sample.item.turn(0)], sample.item.think)

    def next_task(self, sample: Sample, results: Sequence[Any]) -> Task | None:
        if hearing.is_speech(sample.column):
            return None
        return asking.Turn.after(sample.item, results)

    def score(self, rows: Sequence[Row]) -> list[Score]:
        scores: list[Score] = []
        for column, found in groupby(rows, key=lambda row: row.column):
            speech = hearing.is_speech(column)
            of = hearing.speech_scores if speech else asking.question_scores
            scores += of(column, list(found))
        return scores


def evaluate(
    model: OmniModel,
    images: int,
    track: Track = untracked,
    benchmark: Benchmark | None = None,
) -> dict[str, dict[str, float]]:
    """The scores of a model by column and row, without a file that stays.

    images: scenes of each slice. benchmark: a part of it, else all.
    """
    benchmark = benchmark or NanoPerception()
    settings = run_settings(model, NAME, {}, None, images)
    with TemporaryDirectory() as folder:
        file = Path(folder, "predictions.jsonl")
        rows = predict(model, benchmark, settings, file, track=track)
    table: dict[str, dict[str, float]] = {}
    for score in benchmark.score(rows):
        table.setdefault(score.column, {})[score.name] = score.value
    return table
