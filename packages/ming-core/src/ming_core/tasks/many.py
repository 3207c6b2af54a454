"""`model.many`: one task for many items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import TYPE_CHECKING, Any

from ming_core.errors import BadConfig, UnknownName
from ming_core.media import is_sound_pair
from ming_core.tasks.available import task_entry
from ming_core.tasks.running import Outcome, Progress, run_many
from ming_core.tasks.task import Task, check_options, is_task

if TYPE_CHECKING:
    from ming_core.api import OmniModel


def many(
    model: OmniModel,
    name: str,
    items: Iterable[Any],
    batch: int,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> Iterator[Outcome]:
    """See `OmniModel.many`."""
    task = task_entry(name).load()
    if not is_task(task):
        raise BadConfig(
            f"{name!r} cannot be done for many items at once; call model.{name}(...) for each"
        )
    check_options(task, options)
    calls = (partial(_call, task, item, options) for item in items)
    total = len(items) if isinstance(items, Sized) else None
    return _counted(run_many(model, calls, batch), progress, total)


def _counted(
    outcomes: Iterator[Outcome], progress: Progress | None, total: int | None
) -> Iterator[Outcome]:
    for count, outcome in enumerate(outcomes, 1):
        if progress:
            progress(count, total)
        yield outcome


def _call(task: type[Task], item: Any, options: Mapping[str, Any]) -> Task:
    """The call for an item, as it was given to `OmniModel.many`."""
    of: Callable[..., Task] = task.of
    if isinstance(item, Task):
        return item
    if isinstance(item, Mapping):
        try:
            check_options(task, item)
        except UnknownName as error:
            raise BadConfig(str(error)) from None  # of this item alone
        return of(**{**options, **item})
    if isinstance(item, tuple) and not is_sound_pair(item):
        return of(*item, **options)
    return of(item, **options)
