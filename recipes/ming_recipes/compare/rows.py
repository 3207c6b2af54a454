"""The benchmark `rows`: does a model answer rows of training data as they say?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ming_core.engine.answers import checked
from ming_core.engine.request import Request, sampling_of
from ming_core.engine.sampling import SamplingOptions
from ming_core.evaluation import Benchmark, Row, Sample, Score, Sums
from ming_core.media import Media, Message, Text
from ming_core.notes import note_to_user
from ming_core.tasks import Task
from ming_recipes.training.files import open_rows
from ming_recipes.training.records import BadRow, identity

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_recipes.training.records import Record

EXTRA = 32
"""Tokens that an answer may be longer than the right one."""


@dataclass(frozen=True, eq=False)
class Reply(Task):
    """The next answer of a conversation.

    wanted: the right answer, which says how long the model may write.
    """

    messages: Sequence[Message]
    wanted: str
    think: bool = False

    def requests(self, model: OmniModel) -> Sequence[Request]:
        longest = EXTRA + 2 * len(model.tokenizer.encode(self.wanted))
        limited = SamplingOptions(max_new_tokens=longest)
        limited.update(self.sampling)
        return [Request(self.messages, self.think, sampling=sampling_of(self.think, limited))]

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Answer:
        (answer,) = answers
        return checked(model, answer)


class Rows(Benchmark):
    """The last answer of each row, with the messages before it as the row has them.

    The score is the share of right answers. Upper case, blanks around an answer and a full stop at
    its end do not count. Rows about the same medium are drawn together for the interval.
    """

    def samples(self, data: Path | None, limit: int | None) -> Iterator[Sample]:
        """limit: rows, spread evenly. Raises BadConfig for data that are no rows."""
        assert data is not None  # the benchmark is registered as one with data
        records = open_rows(data)
        size = len(records) if limit is None else min(limit, len(records))
        for number in range(size):
            try:
                record = records[number * len(records) // size]
            except BadRow as error:
                note_to_user(f"left out: {error}")
                continue
            *_, question, answer = record.messages  # a row is at least a question and an answer
            facts = {
                "question": _text(question),
                "answer": _text(answer),
                "medium": _medium(record),
            }
            yield Sample(record.id, facts, record.dataset or "model", record)

    def task(self, sample: Sample) -> Reply:
        record: Record = sample.item
        return Reply(record.messages[:-1], sample.facts["answer"], record.think)

    def prediction(self, sample: Sample, results: Sequence[Answer], folder: Path) -> str:
        return results[-1].answer

    def score(self, rows: Sequence[Row]) -> list[Score]:
        scores = []
        for column in dict.fromkeys(row.column for row in rows):
            own = [row for row in rows if row.column == column]
            hits = [(plain(row.prediction or "") == plain(row.facts["answer"]), 1) for row in own]
            groups = [row.facts["medium"] or row.id for row in own]
            right = sum(hit for hit, _ in hits)
            counts = {"right": right, "rows": len(own)}
            scores.append(
                Score(
                    "right",
                    right / len(own),
                    len(own),
                    column=column,
                    counts=counts,
                    sums=Sums(hits, groups=groups),
                )
            )
        return scores


def plain(text: str) -> str:
    """An answer as it is compared."""
    return text.strip().casefold().rstrip(".。!！").rstrip()


def _text(message: Message) -> str:
    return " ".join(part.text for part in message.parts if isinstance(part, Text))


def _medium(record: Record) -> str | None:
    """Tells the first medium of a row from others."""
    parts = (part for message in record.messages for part in message.parts)
    return next((identity(part) for part in parts if isinstance(part, Media)), None)
