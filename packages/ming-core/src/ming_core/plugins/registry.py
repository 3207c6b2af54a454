"""Registries of names. An entry is an import string, so that discovering plugins imports nothing.

The class or function behind a name is imported when somebody asks for it with `Entry.load()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from types import MappingProxyType
from typing import Any

from ming_core.errors import MingError, MissingPlugin, UnknownName


@dataclass(frozen=True)
class Entry:
    """What a plugin registered under a name.

    target: `module:attribute` (dots allowed in the attribute), or what the kind defines instead.
    plugin: the distribution that contributed it.
    extra: further keywords of the registration, e.g. `modality="image"`.
    """

    name: str
    target: str
    plugin: str
    summary: str = ""
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

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


class Registry:
    """Entries of one kind, by name, iterated in name order.

    kind: the word used in messages, e.g. `encoder`.
    part: the keyword that tells several entries of one name apart, e.g. the parts of a preset.
    """

    def __init__(self, kind: str, part: str | None = None) -> None:
        self.kind = kind
        self.part = part
        self._entries: dict[tuple[str, str], Entry] = {}

    def _key(self, entry: Entry) -> tuple[str, str]:
        return entry.name, str(entry.extra[self.part]) if self.part else ""

    def add(self, entry: Entry) -> Entry | None:
        """Store the entry; if its name is taken, leave things as they are and return the owner."""
        owner = self._entries.setdefault(self._key(entry), entry)
        return None if owner is entry else owner

    def find(self, name: str) -> tuple[Entry, ...]:
        """All entries of a name in order of their parts; empty if nobody registered it."""
        return tuple(self._entries[key] for key in sorted(self._entries) if key[0] == name)

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name. Raises UnknownName, which offers the nearest one."""
        found = self.find(name)
        if not found:
            raise UnknownName(self.kind, name, self.names())
        return found[0]

    def __contains__(self, name: object) -> bool:
        return any(known == name for known, _ in self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter([self._entries[key] for key in sorted(self._entries)])

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """Sorted, each once."""
        return sorted({name for name, _ in self._entries})


@dataclass(frozen=True)
class Registrar:
    """The `register` argument of the registering hooks: adds entries in the name of one plugin.

    report: called with a sentence when a name is taken already; the first owner keeps it.
    """

    registry: Registry
    plugin: str
    report: Callable[[str], None]

    def __call__(self, name: str, target: str, *, summary: str = "", **extra: Any) -> None:
        """Register `name`. Raises ValueError for what can never work, e.g. a malformed target."""
        kind, part = self.registry.kind, self.registry.part
        if not _is_word(name):
            raise ValueError(f"a {kind} name must be one word, not {name!r}")
        module, _, attribute = target.partition(":") if isinstance(target, str) else ("", "", "")
        if not module or not attribute:
            raise ValueError(f"{kind} {name!r}: target must be 'module:attribute', not {target!r}")
        if not isinstance(summary, str):
            raise ValueError(f"{kind} {name!r}: summary must be a text, not {summary!r}")
        if part and part not in extra:
            raise ValueError(f"{kind} {name!r}: register it with {part}=...")
        entry = Entry(name, target, self.plugin, summary, MappingProxyType(extra))
        owner = self.registry.add(entry)
        if owner is not None:
            what = f"{part} {extra[part]!r} of {kind} {name!r}" if part else f"{kind} {name!r}"
            self.report(
                f"{what} is registered by both {owner.plugin} and {self.plugin}; using that of "
                f"{owner.plugin}, switch one off with MING_DISABLE_PLUGINS"
            )


def _is_word(name: object) -> bool:
    """Whether a name can be typed as it is: an option begins with a dash."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and not any(map(str.isspace, name))
        and not name.startswith("-")
        and name != ""
    )
