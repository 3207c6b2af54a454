"""What stands in the list of commands for a task whose plugin registers none.

Nothing of a task is imported before its command is called, or its help is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand
from typer.models import CommandInfo

if TYPE_CHECKING:
    from ming_core.plugins.kinds import TaskEntry


def lazy_command(entry: TaskEntry, name: str) -> CommandInfo:
    """What `ming --help` needs to know of a task; the rest comes when it is called."""
    command_class = type("TaskCommand", (TaskCommand,), {"entry": entry})
    summary = entry.summary.rstrip(".") or f"the task {entry.name!r} of {entry.plugin}"
    help = f"{summary[:1].upper()}{summary[1:]}."
    return CommandInfo(name, cls=command_class, callback=lambda: None, help=help)


class TaskCommand(TyperCommand):
    """Stands for the command of a task until that is used."""

    entry: TaskEntry

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        from ming_core.cli.tasks import task_command

        return task_command(self.entry).make_context(info_name, args, *rest, **extra)

    def get_help(self, ctx: Any) -> str:
        return ctx.command.get_help(ctx)
