"""Fine-tune answers about pictures, videos, sounds and texts, with or without reasoning.

A row of the data is a conversation, and every answer in it is learnt:

    {"messages": [{"role": "user", "content": "<image>what is this?"},
                  {"role": "assistant", "content": "a teal bolt"}], "images": ["1.png"]}

docs/data.md has the other forms. An answer that begins with its reasoning is learnt with it. Rows
of texts alone, of pictures, of videos and of sounds are mixed as they come.

This file is yours to change after `ming recipes cp understanding FOLDER`; `ming train FOLDER` runs
the copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from ming_core.media import Message, Text
from ming_recipes.compare.stopping import stop_on_regression
from ming_recipes.nano.rehearsal import rehearsal
from ming_recipes.training.dialects import ReadRow, Row, read_row
from ming_recipes.training.finetune import finetune
from ming_recipes.training.objectives import Answers, Balance
from ming_recipes.training.ranges import Range
from ming_recipes.training.recipe import Recipe
from ming_recipes.training.records import Record
from ming_recipes.training.settings import FineTuning
from ming_recipes.understanding.pictures import changed_picture


@dataclass
class Understanding(FineTuning):
    """The settings of every fine-tuning; docs/finetune.md lists them.

    Attributes:
        system: Instructions that every conversation without its own begins with; null for those of
            the model.
        augment: Move, zoom, turn and light pictures a little each time they are used, so that few
            of them teach more. It is wrong for answers about places.
        rehearse: Share of the rows that are about nano's own world, so that nano keeps what it
            knows. For another model, name rows of what it should keep as a second data set.
    """

    out: str = "runs/understanding"
    system: str | None = None
    augment: bool = False
    rehearse: Annotated[float, Range(0, 0.95)] = 0.0


def reader(settings: Understanding) -> ReadRow:
    """What makes a record of a row."""

    def read(row: Row) -> Record:
        record = read_row(row)
        if not settings.system or record.messages[0].role == "system":
            return record
        first = Message("system", (Text(settings.system),))
        return replace(record, messages=(first, *record.messages))

    return read


def train(settings: Understanding, command: str) -> None:
    """Run or resume; the result is `adapter` or `model` in the folder `out`."""
    finetune(
        settings,
        command,
        reader=lambda model: reader(settings),
        # The answers are what is learnt. The experts of a mixture must stay evenly used meanwhile:
        # settings.losses has the weights of these terms.
        objectives=[Answers(), Balance(settings.bias_rate)],
        rehearsal=lambda folder: (
            [rehearsal(folder / "rehearsal", PICTURES, settings.rehearse)]
            if settings.rehearse
            else []
        ),
        change=changed_picture if settings.augment else None,
        callbacks=lambda model: stop_on_regression(settings, model),
    )


PICTURES = 800
"""Of nano's own world, with about six questions each."""

RECIPE = Recipe(Understanding, train)
