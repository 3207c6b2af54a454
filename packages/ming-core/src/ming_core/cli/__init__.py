"""The `ming` command. Commands come from plugins and import what is heavy inside their bodies."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo

from ming_core.errors import MingError, UnknownName
from ming_core.plugins import CORE, Plugin, Plugins, get_plugins, version_of


class CommandGroup(TyperGroup):
    """Lists commands by name; for an unknown one says what to type or what to install."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from ming_core.directory import missing, package_for

        if package := package_for("commands", name):
            raise missing(f"the command {name!r}", package)
        raise UnknownName("command", name, self.commands, f"See `{ctx.command_path} --help`.")


def new_app(help: str) -> typer.Typer:
    """A command group without rich, which would double the start-up time and is not inherited."""
    return typer.Typer(
        help=help,
        cls=CommandGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )


def build_app(plugins: Plugins) -> typer.Typer:
    """The program with every plugin's commands; the second owner of a name is left out."""
    app = new_app("Run, fine-tune and extend the Ming omni-modal models.")
    app.callback()(_program)
    owners: dict[str, str] = {}

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
    return app


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


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("ming: %(message)s"))
    logger = logging.getLogger("ming")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 fine, 2 user error (one sentence on stderr), 130 interrupted.

    Any other exception is a bug of ours and keeps its traceback.
    """
    try:
        with _warnings_on_stderr():
            # Not `app()`: that installs typer's own exception hook.
            command = typer.main.get_command(build_app(get_plugins()))
            arguments = sys.argv[1:] if arguments is None else arguments
            command.main(args=arguments or ["--help"], prog_name="ming")
    except MingError as error:
        print(f"ming: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
