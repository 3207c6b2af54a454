"""What a benchmark is: samples, a task for each of them, and scores of the predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ming_core.evaluation.bootstrap import Sums, interval

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.tasks import Result, Task


SHARE = "share"
"""The unit of scores that are shown in percent."""


@dataclass(frozen=True)
class Sample:
    """One thing that a model is asked.

    Attributes:
        id: Tells the sample from the others of its column. It is the same in every run.
        facts: What scoring needs to know, for example the right answer, as values for JSON. The
            facts are written beside the prediction.
        column: The column of the table of scores, for example one condition of the test.
        item: What the task is made of, for example a picture. It is not written.
    """

    id: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    column: str = "model"
    item: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Row:
    """A sample with what the model made of it: a line of a file of predictions.

    Attributes:
        prediction: A value for JSON. None if there is an `error`.
        error: Why there is no prediction.
        verdicts: What each judge says about the prediction, by the name of the judge.
    """

    id: str
    facts: Mapping[str, Any]
    column: str
    prediction: Any = None
    error: str | None = None
    verdicts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One number of the table of scores.

    Attributes:
        name: The row of the table, such as "English WER".
        value: The number in `unit`. A "share" is a fraction, which tables show in percent.
        n: Number of samples that the number is about.
        better: Whether a good model has a "higher" or a "lower" number.
        column: The column of the table.
        interval: Both ends of the 95 % interval; None if there is none. It is made of `sums`.
        sums: What the number is made of, sample by sample, in the order of the rows. Two models
            are compared by them.
        published: The same number of other models as their makers published it, by name.
        counts: The numbers behind it.
    """

    name: str
    value: float
    n: int
    unit: str = SHARE
    better: Literal["higher", "lower"] = "higher"
    column: str = "model"
    interval: tuple[float, float] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    sums: Sums | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.interval is None and self.sums is not None:
            object.__setattr__(self, "interval", interval(self.sums))

    def to_dict(self) -> dict[str, Any]:
        """All fields but `sums` as values for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}


def shown_number(value: float, unit: str, *, sign: bool = False) -> str:
    """A number of a table; a share in percent. sign: as for a difference."""
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f}" if unit == SHARE else f"{value:{plus}.3g}"


Judge = Callable[[Row], Any]
"""Says something about a prediction, as a value for JSON; None if the row is not for this judge."""


class Benchmark(ABC):
    """A set of samples and how the predictions for them are scored.

    The keyword-only parameters of the class, or of the function that makes it, are the options that
    a user writes as `key=value`. Their values are texts.

    Attributes:
        judges: Names of those who may judge the predictions.
    """

    judges: Sequence[str] = ()

    def suited_to(self, model: OmniModel) -> Self:
        """This benchmark, or the part of it that the model can be asked. Raises MissingPlugin."""
        return self

    @abstractmethod
    def samples(self, data: Path | None, limit: int | None) -> Iterable[Sample]:
        """The samples, column after column, always in the same order.

        data: what the user gave as --data. limit: highest number of samples; the benchmark says of
        what. Raises BadConfig for data that it cannot read.
        """

    @abstractmethod
    def task(self, sample: Sample) -> Task:
        """What the model is asked. Raises BadMedia for a sample that cannot be read."""

    def next_task(self, sample: Sample, results: Sequence[Result]) -> Task | None:
        """What comes after these results, in a conversation; None after the last one."""
        return None

    def prediction(self, sample: Sample, results: Sequence[Result], folder: Path) -> Any:
        """What is kept of the results, as a value for JSON: the text of the last one.

        folder: for pictures and sounds. Make it if it is needed, save them there and return their
        names.
        """
        return str(results[-1])

    def batch(self, column: str) -> int:
        """How many samples of a column are answered together."""
        return 8

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> Sequence[Score]:
        """The scores of predictions, from their rows alone. It may be a part of all rows."""

    def judge(self, name: str, rows: Sequence[Row], data: Path | None, folder: Path) -> Judge:
        """Open one of the `judges` for these rows. Raises MissingPlugin or BadConfig.

        data: where the data of the run lie. folder: where `prediction` saved pictures and sounds.
        """
        raise NotImplementedError
