"""Fine-tune speech to text: names, terms, an accent, another language.

A row of the data is a recording and what is said in it:

    {"audio": "1.wav", "text": "my name is Zerbina.", "language": "en",
     "context": "a list of guests", "hotwords": ["Zerbina"]}

Only `audio` and `text` are needed. The model is asked exactly as `ming transcribe` asks it with
this language, context and list of words, and it learns to answer what that command expects. A row
with `messages` is a conversation, as in the recipe `understanding`.

This file is yours to change after `ming recipes cp asr FOLDER`; `ming train FOLDER` runs the copy.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from ming_audio.tasks import Transcribe
from ming_core.errors import BadMedia, MingError
from ming_core.fields import shown
from ming_core.media import Audio, Media, Message, assistant
from ming_recipes.compare.stopping import stop_on_regression
from ming_recipes.training.dialects import MissingMedia, ReadRow, Row, id_of, read_row
from ming_recipes.training.finetune import finetune
from ming_recipes.training.ranges import Range
from ming_recipes.training.recipe import Recipe
from ming_recipes.training.records import BadRow, Record
from ming_recipes.training.settings import FineTuning

if TYPE_CHECKING:
    from ming_core.api import OmniModel


@dataclass
class Asr(FineTuning):
    """The settings of every fine-tuning, and what the model is told beside the sound.

    Attributes:
        language: Of rows that name none; null for a model that finds it out.
        words: Names and terms. A share of the rows is asked with a list of some of them, and those
            that are said, so that the model learns to use such lists and not to trust them.
        listed: That share.
    """

    out: str = "runs/asr"
    language: str | None = "en"
    words: list[str] = field(default_factory=list)
    listed: Annotated[float, Range(0, 1)] = 0.3


def reader(settings: Asr, model: OmniModel) -> ReadRow:
    """What makes a record of a row. model: has the words of its questions; no weights are read."""

    def read(row: Row) -> Record:
        if "audio" not in row.values or "messages" in row.values:
            return read_row(row)
        name, text = word(row, "audio"), word(row, "text")
        if not name:
            raise row.bad("'audio' is empty; name the file of the recording")
        if not text:
            raise BadRow("empty text", row.where, "the row has no 'text'; write what is said")
        language = word(row, "language") or settings.language
        context, words = word(row, "context") or None, hotwords(row, text, settings)
        try:
            sound = Audio(row.find("audio", name), "transcribe")
            asked = Transcribe(sound, language, context, words, cut=False)
            first = next(iter(asked.requests(model)), None)
            answer = asked.target(model, text, language)[0]
        except MissingMedia as error:
            raise BadRow("missing media", row.where, str(error)) from None
        except BadMedia as error:
            raise BadRow("unreadable media", row.where, str(error)) from None
        except MingError as error:
            raise row.bad(str(error)) from None
        if first is None:
            reason = "nothing is heard in the recording; leave the row out"
            raise BadRow("unreadable media", row.where, reason)
        question = first.messages[-1]
        # The recording by its name, which is not held in memory.
        parts = tuple(sound if isinstance(part, Media) else part for part in question.parts)
        messages = (*first.messages[:-1], Message("user", parts), assistant(first.begin + answer))
        return Record(id=id_of(row), messages=messages, where=row.where)

    return read


def hotwords(row: Row, text: str, settings: Asr) -> list[str]:
    """The words that a row is asked with: its own, or by chance some of the settings.

    The same row always gets the same list.
    """
    own = row.values.get("hotwords")
    if own is not None:
        if not isinstance(own, list) or not all(isinstance(one, str) for one in own):
            raise row.bad(f"'hotwords' is {shown(own)}; it must be a list of texts")
        return own
    chance = random.Random(row.id)
    if not settings.words or chance.random() >= settings.listed:
        return []
    said = [one for one in settings.words if one in text]
    others = [one for one in settings.words if one not in text]
    found = said + chance.sample(others, min(len(others), chance.randint(3, 12)))
    return chance.sample(found, len(found))


def word(row: Row, key: str) -> str:
    """A text of a row; empty if it has none. Raises BadRow for anything else."""
    value: Any = row.values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise row.bad(f"{key!r} is {shown(value)}; it must be a text")
    return value.strip()


def train(settings: Asr, command: str) -> None:
    """Run or resume; the result is `adapter` or `model` in the folder `out`."""
    finetune(
        settings,
        command,
        reader=lambda model: reader(settings, model),
        callbacks=lambda model: stop_on_regression(settings, model),
    )


RECIPE = Recipe(Asr, train)
