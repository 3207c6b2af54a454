"""The `ming` command. Commands come from plugins and import what is heavy inside their bodies."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo

from ming_core.cli.common import plain_app
from ming_core.cli.lazy import lazy_command
from ming_core.cli.terminal import CLOSED_PIPE, columns, flush, say, silence, standard_streams
from ming_core.errors import MingError, UnknownName
from ming_core.plugins import CORE, Plugin, Plugins, describe, get_plugins, version_of
from ming_core.text import printable

UsageError: Any = typer.BadParameter.__bases__[0]
"""What the library raises for wrong options, which newer releases of it do not export."""


class CommandGroup(TyperGroup):
    """Lists commands by name; for an unknown one says what to type or what to install."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _harmless_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _harmless_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from ming_core.plugins.directory import missing, package_for

        if package := package_for("commands", name):
            raise missing(f"the command {name!r}", package)
        raise UnknownName("command", name, self.commands, f"See `{ctx.command_path} --help`.")


@contextmanager
def _harmless_errors() -> Iterator[None]:
    """Errors of use quote what was typed, or say what to install for an option."""
    try:
        yield
    except UsageError as error:
        if flag := getattr(error, "option_name", None):
            from ming_core.plugins.directory import missing_flag

            if hint := missing_flag(flag):
                raise hint from None
        error.message = printable(error.message)
        raise


def new_app(help: str, completion: bool = False) -> typer.Typer:
    """A group of commands."""
    return plain_app(help=help, cls=CommandGroup, no_args_is_help=True, add_completion=completion)


def build_app(plugins: Plugins) -> typer.Typer:
    """The program with every plugin's commands; the second owner of a name is left out.

    `plugins.commands` then tells which distribution each is from.
    """
    app = new_app("Run and extend the Ming omni-modal models.", completion=True)
    app.callback()(_program)
    plugins.commands.clear()
    owners = plugins.commands

    def claim(name: str, plugin: Plugin) -> bool:
        owner = owners.get(name)
        if owner:
            plugins.fail(
                plugin.name,
                plugin.distribution,
                f"the command {name!r} is registered by both {owner} and {plugin.distribution}; "
                f"using that of {owner}, switch one off with MING_DISABLE_PLUGINS",
            )
            return False
        owners[name] = plugin.distribution
        return True

    # One group that is emptied after each plugin shows who adds what.
    offered = new_app("")
    for plugin, _ in plugins.each("ming_register_commands", app=offered):
        app.registered_commands += [
            info for info in offered.registered_commands if claim(_command_name(info), plugin)
        ]
        app.registered_groups += [
            info for info in offered.registered_groups if claim(_group_name(info), plugin)
        ]
        offered.registered_commands.clear()
        offered.registered_groups.clear()
    # A task whose plugin has no command of that name for it gets one.
    for entry in plugins.tasks:
        name = entry.name.replace("_", "-")
        if name not in owners:
            owners[name] = entry.plugin
            app.registered_commands.append(lazy_command(entry, name))
    return app


def build_program(plugins: Plugins) -> Any:
    """What runs; a command whose parameters the library refuses is left out and reported."""
    app = build_app(plugins)
    try:
        return typer.main.get_command(app)
    except Exception:
        app.registered_commands = [i for i in app.registered_commands if _works(i, plugins)]
        return typer.main.get_command(app)


def _works(info: CommandInfo, plugins: Plugins) -> bool:
    alone = new_app("")
    alone.registered_commands.append(info)
    try:
        typer.main.get_command(alone)
    except Exception as error:
        name = _command_name(info)
        owner = next(p for p in plugins.loaded if p.distribution == plugins.commands[name])
        plugins.fail(owner.name, owner.distribution, f"the command {name!r}: {describe(error)}")
        del plugins.commands[name]
        return False
    return True


def _command_name(info: CommandInfo) -> str:
    return info.name or getattr(info.callback, "__name__", "").replace("_", "-")


def _group_name(info: TyperInfo) -> str:
    return str(info.name or (info.typer_instance and info.typer_instance.info.name) or "")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(CORE, version_of(CORE))
        raise typer.Exit


def _program(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Codes: 0 fine; 2 user error (one sentence on stderr); 130 interrupted, 143 terminated; 141 if
    nobody reads what is printed. An exception that is no error of the user or the system is a bug
    of ours and keeps its traceback.
    """
    with standard_streams():
        code = _run(sys.argv[1:] if arguments is None else arguments)
        try:
            flush()
        except BrokenPipeError:
            code = CLOSED_PIPE
        except OSError as error:
            say(f"cannot print the result: {error.strerror}; send it somewhere else")
            code = code or 2
        sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """The exit code of a command."""
    try:
        # Not `app()`: that installs typer's own exception hook.
        command = build_program(get_plugins())
        width = max(min(columns(), 100) - 2, 20)  # the library's own least is 50
        command.main(args=arguments or ["--help"], prog_name="ming", terminal_width=width)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # the library ends so
            silence()
            return CLOSED_PIPE
        if isinstance(end.code, str):
            say(end.code)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except MingError as error:
        say(error)
        return 2
    except BrokenPipeError:
        silence()
        return CLOSED_PIPE
    except OSError as error:
        name = f" {str(error.filename)!r}" if error.filename else ""
        say(f"cannot read or write{name}: {error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
