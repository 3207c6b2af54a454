"""The options of `Sampling`, on every command whose model writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Annotated, Any

import typer

Sampled = dict[str, Any]
"""What was typed of these options, by the name of the field."""

LENGTH = "Longest answer in tokens: {}."

OPTIONS: dict[str, Any] = {
    "max_new_tokens": Annotated[int | None, typer.Option(show_default=False)],
    "temperature": Annotated[
        float | None,
        typer.Option(help="Sampling temperature; 0 (default) always takes the most likely token."),
    ],
    "top_p": Annotated[
        float | None,
        typer.Option(help="Sample only from the most likely tokens with this total probability."),
    ],
    "top_k": Annotated[
        int | None, typer.Option(help="Sample only from so many of the most likely tokens.")
    ],
    "seed": Annotated[int | None, typer.Option(help="Makes sampled answers repeatable.")],
    "no_repeat_ngram": Annotated[
        int | None, typer.Option(help="Never write the same sequence of so many tokens twice.")
    ],
    "max_loop": Annotated[
        int | None,
        typer.Option(help="End after so many tokens of a loop (default 96); 0 means never."),
    ],
}
"""The fields of `Sampling` as options."""


def sampling_parameters(length: str = "512") -> list[inspect.Parameter]:
    """Parameters of a command. length: what the help says about the longest answer."""
    longest = Annotated[int | None, typer.Option(help=LENGTH.format(length))]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=None)
        for name, hint in {**OPTIONS, "max_new_tokens": longest}.items()
    ]


def chosen(typed: dict[str, Any], others: Collection[str] = ()) -> Sampled:
    """Take the sampling options that were typed out of all of a command's. Raises BadConfig.

    They are checked here, before a model is loaded for nothing. others: options of the command that
    are about something else.
    """
    found = {name: typed.pop(name, None) for name in OPTIONS if name not in others}
    found = {name: value for name, value in found.items() if value is not None}
    if found:
        from ming_core.engine.request import sampling_of

        sampling_of(False, found)  # type: ignore[arg-type]
    return found


def sampling_options(length: str = "512") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Sampling` in place of its parameter `sampling`.

    length: what the help says about the longest answer.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name == "sampling":
                parameters += sampling_parameters(length)
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @wraps(command)
        def run(**typed: Any) -> None:
            command(sampling=chosen(typed), **typed)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
