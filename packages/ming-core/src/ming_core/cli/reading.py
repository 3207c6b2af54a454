"""The options of media that packages register, on a command that takes media of every kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from ming_core.cli.common import plain_app
from ming_core.cli.terminal import say
from ming_core.errors import MissingPlugin
from ming_core.media.options import Options, offered
from ming_core.plugins import get_plugins


@dataclass(frozen=True)
class Reading:
    """What was typed of these options."""

    options: tuple[Options, ...]

    def put(self, parts: Sequence[Any]) -> list[Any]:
        """The parts of a question with the options. Raises BadConfig for one without effect."""
        for options in self.options:
            parts = options.put(parts)
        return list(parts)


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the registered options in place of its parameter `reading`."""
    own = inspect.signature(command, eval_str=True).parameters
    classes = list(_registered({*own}))
    parameters: list[inspect.Parameter] = []
    for parameter in own.values():
        if parameter.name == "reading":
            parameters += [one for kind in classes for one in _parameters(kind)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**typed: Any) -> None:
        made = [_made(kind, typed) for kind in classes]
        command(reading=Reading(tuple(options for options in made if options)), **typed)

    _sign(run, parameters)
    return run


def _registered(taken: set[str]) -> Iterator[type[Options]]:
    """The classes of options whose options have names of their own; others are left out."""
    plugins = get_plugins()
    order = [plugin.distribution for plugin in plugins.loaded]
    for entry in sorted(plugins.options, key=lambda entry: order.index(entry.plugin)):
        try:
            kind = entry.load()
        except MissingPlugin as error:  # the other options work
            say(error)
            continue
        try:
            names = {one.name for one in _parameters(kind)}
            _check(kind)
        except Exception as error:  # the library that makes commands raises anything
            reason = f"options {entry.name!r} are no dataclass of options: {error}"
            plugins.blame(entry, reason)
            continue
        if clash := sorted(names & taken):
            reason = f"options {entry.name!r}: --{clash[0].replace('_', '-')} is an option already"
            plugins.blame(entry, reason)
            continue
        taken |= names
        yield kind


def _check(options: type[Options]) -> None:
    """Raises what is wrong with options that a command is to offer."""
    if not callable(getattr(options, "put", None)):
        raise TypeError("the class has no method put(parts)")

    def run(**typed: Any) -> None: ...

    _sign(run, list(_parameters(options)))
    app = plain_app()
    app.command()(run)
    typer.main.get_command(app)


def _sign(run: Any, parameters: list[inspect.Parameter]) -> None:
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters}


def _parameters(options: type[Options]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options)
    for one in offered(options):
        flag = f"--{one.name.replace('_', '-')}"
        about = typer.Option(flag, help=one.metadata["help"], min=one.metadata["least"])
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[hints[one.name], about],
            default=one.default,
        )


def _made(options: type[Options], typed: dict[str, Any]) -> Options | None:
    """The options that were typed, taken out of all of a command's; None if none was."""
    found = {one.name: typed.pop(one.name) for one in offered(options)}
    given = {one.name for one in offered(options) if found[one.name] != one.default}
    return options(**found) if given else None
