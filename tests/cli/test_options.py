"""One name for one option: each task says the same in Python and on the command line."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest
from typer.main import get_command

from ming_core.cli import build_app
from ming_core.cli.sampling import OPTIONS
from ming_core.engine.sampling import Sampling
from ming_core.plugins import get_plugins
from ming_core.tasks import method_of
from ming_vision.watch import WatchSession

PROGRAM: Any = get_command(build_app(get_plugins()))
TASKS = [entry.name for entry in get_plugins().tasks]

ONLY_IN_PYTHON = {
    "stream": "a terminal always streams",
    "progress": "a terminal always shows it",
    "messages": "a conversation is typed line by line",
}
"""Parameters of methods without an option, and why."""

OF_COMMANDS = {"model", "device", "dtype", "json", "quiet", "out", "again", "batch"}
"""Options of commands about where the work is done, and where its result goes."""

OF_MEDIA = {"fps", "max_frames", "sound", "channel"}
"""Options of what is given, which in Python belong to `Video` and `Audio`."""

OF_RESULTS = {"transcribe": {"format"}}
"""Formats of files, which in Python are told when a result is saved."""

OF_A_SESSION = {"watch": {"ask", "whenever", "every", "realtime", "think"}}
"""What in Python is said to the session that a task gives."""


def parameters_of(task: str) -> dict[str, inspect.Parameter]:
    target = get_plugins().tasks[task].load()
    own = dict(inspect.signature(method_of(target)).parameters)
    if task in ("ask", "chat"):  # real methods, which also stream
        from ming_core import OmniModel

        own = dict(inspect.signature(getattr(OmniModel, task)).parameters)
    own.pop("self", own.pop("model", None))
    return own


def options_of(task: str) -> dict[str, Any]:
    command = PROGRAM.commands[task]
    command = getattr(command, "command", command)
    found = {}
    for option in command.params:
        long = [name for name in option.opts if name.startswith("--")]
        name = long[0].removeprefix("--").replace("-", "_") if long else option.name
        found[name] = option
    found.pop("help", None)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_parameter_has_an_option_of_its_name(task: str) -> None:
    parameters, options = parameters_of(task), options_of(task)
    words = {n for n, option in options.items() if option.param_type_name == "argument"}
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            assert name == "sampling"
            continue
        needed = parameter.default is parameter.empty or name in words
        if not needed and name not in ONLY_IN_PYTHON and name not in words:
            assert name in options, f"{task} has no --{name}"
            usual = options[name].default
            if parameter.default is not None and usual is not None and name != "channel":
                assert getattr(usual, "value", usual) == parameter.default, name


@pytest.mark.parametrize("task", TASKS)
def test_every_option_is_a_parameter(task: str) -> None:
    parameters = parameters_of(task)
    others = OF_COMMANDS | OF_MEDIA | set(OPTIONS)
    others |= OF_RESULTS.get(task, set()) | OF_A_SESSION.get(task, set())
    if task == "chat":  # its first message
        others |= {"instructions"}
    for name, option in options_of(task).items():
        if option.param_type_name != "argument":
            assert name in others or name in parameters, f"{task} has no {name} in Python"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_that_writes_takes_the_sampling_options(task: str) -> None:
    assert list(OPTIONS) == [*dict.fromkeys(OPTIONS)]
    assert set(OPTIONS) == {field.name for field in fields(Sampling)}
    assert set(OPTIONS) <= set(options_of(task))


def test_what_is_said_to_a_session_has_its_names() -> None:
    said: set[str] = set()
    for method in (WatchSession.ask, WatchSession.whenever):
        said |= set(inspect.signature(method).parameters)
    options = set(options_of("watch"))
    assert said - {"self", "question", "only_if", "sampling"} <= options
