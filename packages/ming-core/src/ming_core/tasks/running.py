"""Running tasks: one, or many whose requests share a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ming_core.engine.request import check_batch
from ming_core.errors import BadCheckpoint, MingError, MissingPlugin, UnknownName
from ming_core.notes import collected_notes, note_to_user
from ming_core.tasks.task import Task

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_core.engine.engine import Engine, Ticket
    from ming_core.engine.request import Request
    from ming_core.model.seen import SeenMedia

BATCH = 8
"""Requests that are answered together."""

Progress = Callable[[float, float | None], None]
"""Called with how much is done, and of how much if that is known."""


@dataclass(frozen=True)
class Outcome:
    """What became of one of many tasks.

    Attributes:
        task: The task; None if its arguments are wrong.
        result: Its result; None if there is none.
        error: Why there is no result.
        notes: What a user should know about the result.
    """

    task: Task | None
    result: Any = None
    error: MingError | OSError | None = None
    notes: tuple[str, ...] = ()


SAME_FOR_ALL = (BadCheckpoint, MissingPlugin, UnknownName)
"""Errors that are about the model or the options, so that no other item would do better."""

AHEAD = 8
"""Tasks, as a multiple of the batch, that may be done behind one that is not."""


def run(
    model: OmniModel, task: Task, *, batch: int = BATCH, progress: Progress | None = None
) -> Any:
    """The result of one task.

    Args:
        model: The model to ask.
        task: What to ask it.
        batch: How many requests of the task are answered together.
        progress: Called after each answer with what is done and what there is to do, in units of
            the task, such as seconds of sound.

    Raises a MingError if the arguments, the media or the answers are wrong.
    """

    def tell(_: int, *done: Any) -> None:
        if progress:
            progress(*done)

    (outcome,) = run_many(model, [task], batch, tell if progress else None)
    for sentence in outcome.notes:
        note_to_user(sentence)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


Tell = Callable[..., None]
"""Called with the number of a task, from 0, and how far it is, as `Progress`."""


def run_many(
    model: OmniModel,
    tasks: Iterable[Task | Callable[[], Task]],
    batch: int = BATCH,
    tell: Tell | None = None,
) -> Iterator[Outcome]:
    """Run many tasks. Yields their outcomes in order. Their requests share batches.

    Args:
        model: The model to ask.
        tasks: The tasks, or functions that make them when it is their turn. They are taken one by
            one, as the model needs them.
        batch: How many requests are answered together.
        tell: Called after each answer with the number of the first task that is not done, and how
            far that is.

    An error of one task is in its outcome, and the others are done. Raises BadCheckpoint,
    MissingPlugin and UnknownName, which would be the same for all, and BadConfig for the batch.
    """
    check_batch(batch)
    return _outcomes(model, iter(tasks), batch, tell)


def _outcomes(
    model: OmniModel,
    tasks: Iterator[Task | Callable[[], Task]],
    batch: int,
    tell: Tell | None,
) -> Iterator[Outcome]:
    from ming_core.model.seen import SeenMedia

    engine = model.engine
    # Several requests may be about the same picture or sound.
    known = SeenMedia(model.config.max_position_embeddings)
    jobs: deque[_Job] = deque()
    finished = 0
    more = True
    try:
        while more or jobs:
            while sum(job.flying for job in jobs) < batch:
                if jobs and jobs[-1].request(engine, known):
                    continue
                if not more or len(jobs) >= AHEAD * batch:
                    break
                task = next(tasks, None)
                if task is None:
                    more = False
                else:
                    jobs.append(_Job(model, task))
            if any(job.flying for job in jobs):
                engine.step()
            for job in jobs:
                job.look(engine)
            while jobs and jobs[0].complete:
                if tell:
                    jobs[0].tell(tell, finished)
                yield jobs.popleft().outcome()
                finished += 1
            if tell and jobs:
                jobs[0].tell(tell, finished)
    finally:
        for job in jobs:
            job.cancel(engine)


class _Job:
    """A task while its requests are answered."""

    def __init__(self, model: OmniModel, task: Task | Callable[[], Task]) -> None:
        self.model = model
        self.task: Task | None = None
        self.error: MingError | OSError | None = None
        self.notes: list[str] = []
        self._tickets: dict[int, Ticket] = {}  # those without an answer, by number
        self._answers: list[Answer | None] = []
        self._left: Iterator[Request] | None = None
        self._told: tuple[float, float | None] | None = None
        with self._caught():
            self.task = task if isinstance(task, Task) else task()
            self._left = iter(self.task.requests(model))

    @property
    def flying(self) -> int:
        """Requests that have no answer yet."""
        return len(self._tickets)

    @property
    def complete(self) -> bool:
        return self._left is None and not self._tickets

    def request(self, engine: Engine, known: SeenMedia) -> bool:
        """Put the next request to the engine; False if there is none."""
        found = False
        if self._left is not None:
            with self._caught():
                request = next(self._left, None)
                if request is not None:
                    self._tickets[len(self._answers)] = engine.submit(request, known=known)
                    self._answers.append(None)
                    found = True
        if not found:
            self._left = None
        return found

    def look(self, engine: Engine) -> None:
        """Take the answers that are there; after an error the others are of no use."""
        for number, ticket in list(self._tickets.items()):
            if ticket.done:
                del self._tickets[number]  # with its media, which may be large
                with self._caught():
                    self._answers[number] = engine.wait(ticket)
        if self.error is not None:
            self.cancel(engine)

    def tell(self, tell: Tell, number: int) -> None:
        """Tell how far the task is, unless that was told."""
        if self.task is None or self.error is not None:
            return
        ready = min(self._tickets, default=len(self._answers))
        done = self.task.done(ready)
        if done != self._told and (ready or self.complete):
            self._told = done
            tell(number, *done)

    def outcome(self) -> Outcome:
        """Raises the errors that would be the same for all."""
        result = None
        if self.error is None and self.task is not None:
            with self._caught():
                result = self.task.result(self.model, list(filter(None, self._answers)))
        if isinstance(self.error, SAME_FOR_ALL):
            raise self.error
        return Outcome(self.task, result, self.error, tuple(self.notes))

    def cancel(self, engine: Engine) -> None:
        while self._tickets:
            engine.cancel(self._tickets.popitem()[1])

    @contextmanager
    def _caught(self) -> Iterator[None]:
        """Keeps the notes and the error of what happens inside."""
        with collected_notes() as notes:
            try:
                yield
            except (MingError, OSError) as error:
                self.error, self._left = error, None
        self.notes += [sentence for sentence in notes if sentence not in self.notes]
