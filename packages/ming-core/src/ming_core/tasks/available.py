"""Which tasks a model can do with the installed packages, and what is missing for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ming_core.errors import MingError, MissingPlugin, UnknownName
from ming_core.modalities import KINDS
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import known_tasks, missing_task

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.plugins.kinds import TaskEntry


class NoTask(MissingPlugin, AttributeError):
    """A model has no such method, because a package or a part of the model is missing."""


class Tasks(dict[str, str]):
    """Summaries of the tasks that a model can do, by name.

    Attributes:
        missing: Why it cannot do the other tasks, by name.
    """

    def __init__(self, can: Mapping[str, str], missing: Mapping[str, str]) -> None:
        super().__init__(can)
        self.missing = dict(missing)

    def __str__(self) -> str:
        width = max(map(len, (*self, *self.missing)), default=0)
        lines = [f"{name:<{width}}  {summary}" for name, summary in self.items()]
        lines += [f"{name:<{width}}  missing: {why}" for name, why in self.missing.items()]
        return "\n".join(lines)


def tasks_of(model: OmniModel) -> Tasks:
    """All tasks of the installed packages and those of packages that are known."""
    can: dict[str, str] = {}
    missing: dict[str, str] = {}
    for entry in get_plugins().tasks:
        reason = why_not(model, entry)
        if reason is None:
            can[entry.name] = entry.summary
        else:
            missing[entry.name] = reason
    for name in known_tasks():
        hint = None if name in can or name in missing else missing_task(name)
        if hint is not None:
            missing[name] = str(hint)
    return Tasks(can, missing)


def task_entry(name: str) -> TaskEntry:
    """The registered task. Raises UnknownName, or MissingPlugin with what to install."""
    found = get_plugins().tasks.find(name)
    if found:
        return found[0]
    hint = missing_task(name)
    if hint is not None:
        raise hint
    raise UnknownName("task", name, get_plugins().tasks.names())


def why_not(model: OmniModel, entry: TaskEntry) -> str | None:
    """Why a model cannot do a task; None if it can.

    It must read one of the kinds of media that the task takes, and have a head for what it gives,
    or its language model for words.
    """
    takes, gives = entry.takes, entry.gives
    try:
        if gives in KINDS:
            model.sources.head_entry(gives)
        else:
            model.sources.require("text")
        unread = [_unread(model, KINDS[kind].modality) for kind in takes if kind in KINDS]
    except MingError as error:
        return str(error)
    return unread[0] if unread and all(unread) and len(unread) == len(takes) else None


def _unread(model: OmniModel, modality: str) -> str | None:
    """Why the model reads no media of a modality; None if it does."""
    if model.present(modality) is not None:
        return None
    try:
        model.sources.encoder_entry(modality)
    except MingError as error:
        return str(error)
    return None
