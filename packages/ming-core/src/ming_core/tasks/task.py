"""What a task is: a dataclass of its arguments, which makes requests and a result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

from ming_core.engine.request import sampling_of
from ming_core.engine.sampling import Sampling, SamplingOptions
from ming_core.errors import BadConfig, MingError, UnknownName

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_core.engine.request import Request

SAMPLING = "sampling"
"""The field of every task that holds what its method takes as further keywords."""


class NoTarget(MingError):
    """A task has no text that a model could be trained to answer."""


class WrongCall(MingError, TypeError):
    """A task was called with arguments that it does not take, or without those that it needs."""


class Result(Protocol):
    """What a task gives. `str(result)` is what the command prints."""

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write it, completely or not at all. Raises CannotWrite."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """One call of a task. Its fields are the arguments of the call.

    A task is a dataclass that derives from this one and is registered under its name. `model.NAME`
    then takes the same arguments as the class and returns the result. An object keeps what it has
    read between its requests and its result, so run it once.

    Attributes:
        sampling: The fields of `Sampling` that the caller has chosen.

    Raises UnknownName or BadConfig for sampling options that do not exist or have no effect.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions, kw_only=True)

    pieces: ClassVar[bool] = False
    """Whether a call can have several requests. The method then also takes `batch` and `progress`,
    as `ming_core.tasks.run`."""

    def __post_init__(self) -> None:
        sampling_of(False, self.sampling)

    @classmethod
    def of(cls, *arguments: Any, **options: Any) -> Self:
        """A call with the arguments of the method: those of `Sampling` are keywords of their own.

        Raises UnknownName for an option that the task does not have, and WrongCall for arguments
        that are missing or too many.
        """
        own = {name: options.pop(name) for name in _fields(cls) if name in options}
        check_options(cls, options)
        try:
            inspect.signature(cls).bind(*arguments, **own)
        except TypeError as error:
            takes = ", ".join(_fields(cls))
            raise WrongCall(
                f"wrong arguments of {name_of(cls)}: {error}; it takes {takes}"
            ) from None
        return cls(*arguments, **own, sampling=cast("SamplingOptions", options))

    def requests(self, model: OmniModel) -> Iterable[Request]:
        """Yield what the model is asked, one request after the other. A long input is read
        meanwhile.

        Raises BadMedia, BadConfig or MissingPlugin.
        """
        raise NotImplementedError

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Any:
        """What the answers to all requests mean: a `Result`. Raises NotFinite."""
        raise NotImplementedError

    def target(self, model: OmniModel, wanted: Any) -> Sequence[str]:
        """What the model should have answered to each request, for training.

        Raises NoTarget if nothing can be said about that.
        """
        raise NoTarget(f"the task {name_of(type(self))!r} has no target to train on")

    def done(self, answers: int) -> tuple[float, float | None]:
        """For `progress`: how much is done after so many answers, and how much there is."""
        return answers, None


def check_options(task: type[Task], options: Iterable[str]) -> None:
    """Raises UnknownName for the name of an option that a task does not have."""
    known = [*_fields(task), *_sampling_names()]
    for name in options:
        if name not in known:
            raise UnknownName(f"option of {name_of(task)}", name, known)


def method_of(target: Any) -> Callable[..., Any]:
    """The function behind `model.NAME`: of a task, or a function that is registered as one."""
    return _method(target) if is_task(target) else target


def is_task(target: Any) -> bool:
    """Whether what is registered is a class of tasks, and no plain function."""
    return isinstance(target, type) and issubclass(target, Task)


def name_of(task: type[Task]) -> str:
    """The name of the method, for messages."""
    return task.__name__.lower()


@cache
def _method(task: type[Task]) -> Callable[..., Any]:
    """A function of a model and the arguments of a task, with their signature and text."""
    from ming_core.tasks.running import BATCH, run

    def method(model: OmniModel, *arguments: Any, **options: Any) -> Any:
        running = {name: options.pop(name) for name in RUNNING if task.pieces and name in options}
        return run(model, task.of(*arguments, **options), **running)

    kind = inspect.Parameter
    given = [
        parameter
        for name, parameter in inspect.signature(task).parameters.items()
        if name != SAMPLING
    ]
    if task.pieces:
        given += [
            kind("batch", kind.KEYWORD_ONLY, default=BATCH, annotation="int"),
            kind("progress", kind.KEYWORD_ONLY, default=None, annotation="Progress | None"),
        ]
    parameters = [
        kind("model", kind.POSITIONAL_OR_KEYWORD, annotation="OmniModel"),
        *given,
        kind(SAMPLING, kind.VAR_KEYWORD, annotation="Unpack[SamplingOptions]"),
    ]
    returned = inspect.signature(task.result).return_annotation
    method.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=returned
    )
    method.__doc__ = inspect.getdoc(task)
    method.__name__ = method.__qualname__ = name_of(task)
    method.__module__ = task.__module__
    return method


RUNNING = ("batch", "progress")
"""Arguments of the method of a task with pieces that are about how it is run."""


def _sampling_names() -> list[str]:
    return [one.name for one in fields(Sampling)]


def _fields(task: type[Task]) -> list[str]:
    return [one.name for one in fields(task) if one.name != SAMPLING]


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raises BadConfig for a value that is none of those known."""
    if value not in known:
        raise BadConfig(f"{name} is {value!r}; use {' or '.join(map(repr, known))}")
