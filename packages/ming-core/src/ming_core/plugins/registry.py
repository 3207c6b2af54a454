"""Registries of names. An entry is an import string, so that discovering plugins imports nothing.

The class or function behind a name is imported when somebody asks for it with `Entry.load()`. What
each kind of entry says besides is in `ming_core.plugins.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from functools import reduce
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ming_core.errors import MingError, MissingPlugin, UnknownName

Claim = tuple[str, str]
"""Where a name is used, and the name: what two entries of one registry must not share."""


class BadEntry(ValueError):
    """A registration that can never work; one sentence."""


@dataclass(frozen=True)
class Entry:
    """What a plugin registered under a name.

    Attributes:
        name: One word.
        target: `module:attribute` (dots allowed in the attribute), or what the kind defines
            instead.
        plugin: The distribution that contributed it.
        summary: One line for people.

    Raises BadEntry for a value that can never work.
    """

    name: str
    target: str
    plugin: str
    summary: str = ""

    word: ClassVar[str] = "entry"
    """What messages call the kind."""

    def __post_init__(self) -> None:
        for field in fields(self):
            fits, expected = _TYPES[str(field.type)]
            if not fits(getattr(self, field.name)):
                raise self.refuse(field.name, expected)
        self.check()

    def check(self) -> None:
        """Rules of the kind. Raises BadEntry."""

    def refuse(self, field: str, expected: str) -> BadEntry:
        """The error for a keyword."""
        value = getattr(self, field)
        return BadEntry(f"{self.word} {self.name!r}: {field} must be {expected}, not {value!r:.80}")

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What no other entry may be called."""
        return (("", self.name),)

    def called(self, claim: Claim) -> str:
        """One of its claims, for messages."""
        return f"{self.word} {self.name!r}"

    def load(self) -> Any:
        """The object the target names. Raises MissingPlugin with the cause if it cannot be had."""
        module, _, attribute = self.target.partition(":")
        try:
            return reduce(getattr, attribute.split("."), import_module(module))
        except (KeyboardInterrupt, MingError):
            raise
        except BaseException as error:  # an import may do anything: exit, panic
            plain = isinstance(error, ImportError | AttributeError)
            why = str(error) if plain else f"{type(error).__name__}: {error}".removesuffix(": ")
            raise MissingPlugin(
                f"{self.name!r} of {self.plugin} cannot be loaded from {self.target!r}: {why}; "
                f"reinstall or update {self.plugin}"
            ) from error


EntryT = TypeVar("EntryT", bound=Entry)


class Registry(Generic[EntryT]):
    """Entries of one kind, by name, iterated in the order of their names and claims."""

    def __init__(self, kind: type[EntryT]) -> None:
        self.kind = kind
        self._owners: dict[Claim, EntryT] = {}

    def add(self, entry: EntryT) -> tuple[Claim, EntryT] | None:
        """Store the entry; if it claims what is taken, store nothing and return claim and owner."""
        for claim in entry.claims:
            if claim in self._owners:
                return claim, self._owners[claim]
        self._owners |= dict.fromkeys(entry.claims, entry)
        return None

    def find(self, name: str) -> tuple[EntryT, ...]:
        """All entries of a name, as the parts of a preset; empty if nobody registered it."""
        return tuple(entry for entry in self if entry.name == name)

    def __getitem__(self, name: str) -> EntryT:
        """The entry of a name. Raises UnknownName, which offers the nearest one."""
        found = self.find(name)
        if not found:
            raise UnknownName(self.kind.word, name, self.names())
        return found[0]

    def __contains__(self, name: object) -> bool:
        return any(entry.name == name for entry in self._owners.values())

    def __iter__(self) -> Iterator[EntryT]:
        entries = {id(entry): entry for entry in self._owners.values()}.values()
        return iter(sorted(entries, key=lambda entry: (entry.name, entry.claims)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def names(self) -> list[str]:
        """Sorted, each once."""
        return sorted({entry.name for entry in self._owners.values()})


@dataclass(frozen=True)
class Registrar:
    """The `register` argument of the registering hooks: adds entries in the name of one plugin.

    report: called with a sentence for what is left out. A wrong registration is left out alone; of
    two with one name, the second is.
    """

    registry: Registry[Any]
    plugin: str
    report: Callable[[str], None]

    def __call__(self, name: Any, target: Any = None, **keywords: Any) -> None:
        """Register `name`. The keywords are those of the kind, and `summary`."""
        try:
            entry = self._entry(name, target, keywords)
        except BadEntry as error:
            self.report(str(error))
            return
        if taken := self.registry.add(entry):
            claim, owner = taken
            what, by = entry.called(claim), f"both {owner.plugin} and {self.plugin}"
            if owner.plugin == self.plugin:
                self.report(f"{what} is registered twice; using the first")
                return
            self.report(
                f"{what} is registered by {by}; using that of {owner.plugin}, switch one off with "
                "MING_DISABLE_PLUGINS"
            )

    def _entry(self, name: Any, target: Any, keywords: dict[str, Any]) -> Entry:
        kind = self.registry.kind
        if not is_word(name):
            raise BadEntry(f"a {kind.word} name must be one word, not {name!r:.80}")
        who = f"{kind.word} {name!r}"
        if not is_place(target):
            raise BadEntry(f"{who}: target must be 'module:attribute', not {target!r:.80}")
        known = {f.name: f for f in fields(kind) if f.name not in ("name", "target", "plugin")}
        for key in keywords:
            if key not in known:
                raise BadEntry(f"{who}: {UnknownName('keyword', key, known)}")
        needed = [key for key, field in known.items() if field.default is MISSING]
        if not keywords.keys() >= set(needed):
            missing = " and ".join(f"{key}=..." for key in needed if key not in keywords)
            raise BadEntry(f"{who}: register it with {missing}")
        listed = {key: tuple(v) for key, v in keywords.items() if isinstance(v, list | set)}
        return kind(name, target, self.plugin, **keywords | listed)


def is_word(value: object) -> bool:
    """Whether a name can be typed as it is: an option begins with a dash."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and not any(map(str.isspace, value))
        and not value.startswith("-")
        and value != ""
    )


def is_place(value: object) -> bool:
    """Whether a value is `module:attribute`, or `package:file`."""
    if not isinstance(value, str):
        return False
    before, _, after = value.partition(":")
    return bool(before and after)


def packaged(place: str) -> Path | None:
    """The file or folder `package:path` of an installed package; None if there is none."""
    package, _, inside = place.partition(":")
    # find_spec first: `files` would import the package, which may be heavy
    try:
        if find_spec(package) is None:
            return None
        path = Path(str(files(package).joinpath(inside)))
    except (ImportError, TypeError, ValueError):  # a module instead of a package, no name at all
        return None
    return path if path.exists() else None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


_TYPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "str": (_is_text, "a text"),
    "str | None": (lambda value: value is None or _is_text(value), "a text or None"),
    "int | None": (lambda value: value is None or type(value) is int, "a whole number or None"),
    "tuple[str, ...]": (_is_texts, "a list of texts"),
}
"""Every type that a field of an entry may have, and what messages call it."""
