"""Commands for tasks whose plugin registers none: each is built from the signature of its task."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from ming_core.cli.common import (
    BatchOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    QuietOption,
    check_stdin,
    load_model,
    plain_app,
    read_media,
    read_text,
)
from ming_core.cli.sampling import chosen, sampling_parameters
from ming_core.cli.terminal import note, print_json, said_notes, show
from ming_core.errors import BadConfig
from ming_core.media import Media
from ming_core.modalities import KINDS
from ming_core.output import check_target
from ming_core.plugins.kinds import TaskEntry

PLAIN = (str, int, float, bool, Path)
SAVED = Annotated[str | None, typer.Option("--out", "-o", help="Write the result here.")]
COMMON: dict[str, tuple[Any, Any]] = {
    "out": (SAVED, None),
    "model": (ModelOption, "nano"),
    "device": (DeviceOption, "auto"),
    "dtype": (DtypeOption, "auto"),
    "as_json": (JsonOption, False),
    "quiet": (QuietOption, False),
}
"""Options of every such command and their defaults."""

RUNNING = {"batch": (BatchOption, 8)}
"""Those of a task with pieces."""


@dataclass(frozen=True)
class Field:
    """A parameter of a task on the command line.

    shown: as typer wants it, None for what has no place there. given: makes what was typed into
    what the task takes.
    """

    parameter: inspect.Parameter
    shown: inspect.Parameter | None
    given: Callable[[Any], Any]


def task_command(entry: TaskEntry) -> Any:
    """The command of a task: of a class of them, or of a function.

    Raises MissingPlugin if the task cannot be imported, and BadConfig if one of its parameters has
    no place on a command line.
    """
    target = entry.load()
    from ming_core.tasks.task import RUNNING as OF_RUNNING
    from ming_core.tasks.task import is_task, method_of

    function = method_of(target)
    try:
        _, *parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # no function, no signature, no parameter
        raise BadConfig(
            f"the task {entry.name!r} of {entry.plugin} has no command: {entry.target!r} must be a "
            f"task or a function whose first parameter is the model; update {entry.plugin}"
        ) from None
    sampled = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    own = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    if is_task(target):
        own = [p for p in own if p.name not in OF_RUNNING]
    fields = [_field(entry, target, parameter) for parameter in own]
    names = {parameter.name for parameter in own}
    common = COMMON | (RUNNING if is_task(target) and target.pieces else {})
    common = {name: option for name, option in common.items() if name not in names}

    def run(**typed: Any) -> None:
        sampling = chosen(typed, names) if sampled else {}
        ours = {name: typed.pop(name) for name in common}
        settings = {name: default for name, (_, default) in COMMON.items()} | ours
        check_stdin(*(value for value in typed.values() if isinstance(value, str)))
        if settings["out"] is not None:
            check_target(settings["out"])
        positional, keywords = _arguments(fields, typed)
        # A task says here already what is wrong with its arguments.
        task = target.of(*positional, **keywords, **sampling) if is_task(target) else None
        model, quiet = settings["model"], settings["quiet"]
        omni = load_model(model, settings["device"], settings["dtype"], quiet)
        with said_notes() as notes:
            if task is None:
                result = function(omni, *positional, **keywords, **sampling)
            else:
                from ming_core.tasks import run as run_task

                result = run_task(omni, task, batch=settings.get("batch", 8))
            _deliver(result, entry.name, model, settings, notes)

    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
        for name, (hint, default) in common.items()
    ]
    if sampled:
        options += [p for p in sampling_parameters() if p.name not in names]
    shown = [field.shown for field in fields if field.shown] + options
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in shown}
    run.__doc__ = inspect.getdoc(target) or entry.summary
    app = plain_app()
    app.command(entry.name)(run)
    return typer.main.get_command(app)


def _field(entry: TaskEntry, function: Any, parameter: inspect.Parameter) -> Field:
    """Raises BadConfig for a needed parameter of a type that nobody can type."""
    needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
    several = parameter.kind is parameter.VAR_POSITIONAL
    media = any(kind in entry.takes for kind in KINDS)
    found = _typed(_hint(function, parameter), media)
    if found is None:
        if needed:
            raise BadConfig(
                f"the task {entry.name!r} of {entry.plugin} has no command: its parameter "
                f"{parameter.name!r} cannot be typed; call it in Python"
            )
        return Field(parameter, None, lambda value: value)
    kind, listed, given = found
    argument = several or (needed and parameter.kind is not parameter.KEYWORD_ONLY)
    listed = listed or several
    kind = list[kind] if listed else kind
    if argument:
        about = typer.Argument(metavar=parameter.name.upper() + "..." * several)
    else:
        default = parameter.default
        hidden = default is parameter.empty or default in (None, False, "") or default == ()
        text = False if hidden else str(default.value if isinstance(default, Enum) else default)
        about = typer.Option(f"--{parameter.name.replace('_', '-')}", show_default=text)
        if kind is bool:  # typer adds the flag that says no
            about = typer.Option(show_default=text)
    shown = inspect.Parameter(
        parameter.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind if needed else kind | None, about],
        default=parameter.empty if needed else None,
    )
    return Field(parameter, shown, (lambda typed: [given(x) for x in typed]) if listed else given)


def _hint(function: Any, parameter: inspect.Parameter) -> Any:
    """The type of a parameter, or of its default; Any for one that type checkers alone know."""
    hint = parameter.annotation
    if hint is parameter.empty and parameter.default not in (None, parameter.empty):
        return type(parameter.default)
    if isinstance(hint, str):
        try:
            hint = eval(hint, vars(sys.modules[inspect.unwrap(function).__module__]))
        except Exception:
            return Any
    return Any if hint is parameter.empty else hint


def _typed(hint: Any, media: bool) -> tuple[Any, bool, Callable[[Any], Any]] | None:
    """Type on the command line, whether it may be given several times, and how it is read."""
    union = get_origin(hint) in (Union, UnionType)
    kinds = [kind for kind in (get_args(hint) if union else (hint,)) if kind is not type(None)]
    if hint is Any or any(isinstance(kind, type) and issubclass(kind, Media) for kind in kinds):
        return (str, False, read_media) if media else (str, False, read_text)
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if kind is str] or kinds[:1]
    (kind,) = kinds
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if not all(isinstance(value, str) for value in inner):
            return None
        return Enum("Choice", {value: value for value in inner}), False, lambda found: found.value
    if isinstance(origin, type) and issubclass(origin, Sequence) and inner:
        one = _typed(inner[0], media)
        return None if one is None or one[1] else (one[0], True, one[2])
    if kind is str:
        return str, False, read_text
    if isinstance(kind, type) and (kind in PLAIN or issubclass(kind, Enum)):
        return kind, False, lambda found: found
    return None


def _arguments(fields: Iterable[Field], typed: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What the task is called with. Media are opened here, before the model is loaded."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for field in fields:
        parameter = field.parameter
        value = typed.get(parameter.name)
        given = value is not None and value != []
        value = field.given(value) if given else parameter.default
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += value if given else []
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(value)
        elif given:
            keywords[parameter.name] = value
    return positional, keywords


def _deliver(
    result: Any, task: str, model: str, settings: dict[str, Any], notes: list[str]
) -> None:
    """Save a result, or print it. One that cannot be saved is printed. Raises MingError."""
    out, as_json = settings["out"], settings["as_json"]
    try:
        if out is not None:
            if not hasattr(result, "save"):
                raise BadConfig(f"what {task!r} gives cannot be saved; leave out --out")
            result.save(Path(out))
            note(f"wrote {out}", settings["quiet"])
            out = None if as_json else out
        elif isinstance(result, Iterator) and not as_json:
            for piece in result:
                show(piece, end="")
            show("")
            return
    except BaseException:
        show("" if isinstance(result, Iterator) else result)
        raise
    if as_json:
        told = {"notes": list(notes)} if notes else {}
        print_json({"task": task, "model": model, **_values(result), **told})
    elif out is None:
        show(result)


def _values(result: Any) -> dict[str, Any]:
    """A result as values for JSON."""
    if hasattr(result, "to_dict"):
        return result.to_dict()
    if is_dataclass(result) and not isinstance(result, type):
        return asdict(result)
    if isinstance(result, Iterator):
        return {"result": "".join(map(str, result))}
    plain = isinstance(result, str | int | float | bool | list | dict | None)
    return {"result": result if plain else str(result)}
