"""How a medium is read, such as which frames of a video: packages define it, the core carries it.

A package registers a dataclass with `ming_register_options`. Users make one and give it to a
medium. Those of its fields that are made by `option` are also options of `ming ask`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import Field, field, fields
from typing import Any, ClassVar, Protocol

from ming_core.errors import BadConfig


def option(help: str, default: Any = None, *, least: float | None = None) -> Any:
    """A field that commands also offer. least: its lowest value on the command line."""
    return field(default=default, metadata={"help": help, "least": least})


def offered(options: type[Options]) -> Iterator[Field[Any]]:
    """The fields that commands offer."""
    return (one for one in fields(options) if "help" in one.metadata)


class Options(Protocol):
    """What is registered: a dataclass with this method. All of its fields have defaults."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def put(self, parts: Sequence[Any]) -> list[Any]:
        """The parts of a question, those that it is about with these options.

        Raises BadConfig for an option that has no effect on any of them (`refuse`).
        """
        ...


def refuse(nouns: str, **given: Any) -> None:
    """Raises BadConfig for the first option that was given. nouns: what it would be about."""
    for name, value in given.items():
        if value:
            raise BadConfig(
                f"--{name.replace('_', '-')} is about {nouns}, and there is none; leave it out"
            )
